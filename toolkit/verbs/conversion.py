"""What `convert` and `quantize` share: the fields of their requests, the plan, the files, and the result."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from toolkit.conversion.convert import ConversionOptions, write_gguf, write_shards
from toolkit.conversion.requantization import requantization_warning
from toolkit.conversion.shards import Shard, ShardLimit, split_plan
from toolkit.conversion.tensor_plan import ConversionPlan, plan_conversion
from toolkit.errors import InputError
from toolkit.gguf.inputs import refuse_input
from toolkit.gguf.output_file import check_output
from toolkit.gguf.shard_names import shard_name, shard_path
from toolkit.importance.moments import open_moments
from toolkit.model_source import ModelSource
from toolkit.quant_profile import load_profile, parse_override
from toolkit.reporter import Reporter
from toolkit.rounding.row_rounding import MomentsRounding
from toolkit.verbs.chat_templates import use_chat_template
from toolkit.verbs.devices import PathName, Size, size_bytes
from toolkit.verbs.model_names import read_imatrix_for
from toolkit.verbs.values import Positive
from toolkit.verification.file_check import check_finished


@dataclass(frozen=True, kw_only=True)
class ConversionFields:
    """The fields of both requests."""

    profile: str = "q4_k_m"
    """name of a profile, or its file"""
    imatrix: PathName | None = None
    """importance matrix (GGUF or legacy .dat)"""
    chat_template: PathName | None = None
    """chat template to write in place of the model's own"""
    rounding: Literal["ggml", "calibrated"] = "ggml"
    """llama.cpp's own bytes, or the same types with less error on text like that of `moments`"""
    text: str | None = None
    """calibration text for `sequential`: a file in UTF-8, or `demo`"""
    sequential: bool = False
    """calibrated rounding block after block, each weight fitted to what the quantized blocks before it give"""
    chunks: Positive | None = None
    """chunks of `text` to calibrate on; None is all of it"""
    moments: PathName | None = None
    """second moments for calibrated rounding, from `imatrix(..., moments=True)`"""
    tensor_types: Sequence[str] = ()
    """PATTERN=TYPE pairs: types for tensors that match"""
    split_max_size: Size | None = None
    """write several files, none larger than this"""
    split_max_tensors: Positive | None = None
    """write several files of so many tensors"""
    dry_run: bool = False
    """plan, and write nothing"""
    force: bool = False
    """replace an existing output"""
    allow_nan: bool = False
    """go on although weights are NaN or infinite"""
    threads: Positive | None = None
    """CPU threads; None is the number of physical cores"""


@dataclass(frozen=True)
class ConversionResult:
    """A conversion plan, and the files that it became, or would become in a dry run."""

    plan: ConversionPlan
    shards: tuple[Shard, ...]
    """what each file holds; one unless the output is split"""
    paths: tuple[Path, ...]
    written: bool
    """False for a dry run"""
    seconds: float

    @property
    def file_bytes(self) -> int:
        """Return the bytes of all files."""
        return sum(shard.layout.file_bytes for shard in self.shards)


@dataclass(frozen=True)
class _Outputs:
    shards: tuple[Shard, ...]
    paths: tuple[Path, ...]


def convert_source(
    source: ModelSource, output: Path | None, fields: ConversionFields, reporter: Reporter
) -> ConversionResult:
    """Plan, then (unless it is a dry run) write.

    `output` is a file, a folder for a file of the default name, or None for the current folder.
    """
    source = use_chat_template(source, fields.chat_template, reporter)
    plan = _plan(source, fields, reporter)
    for message in (*source.warnings, *plan.remarks, *_fallback_warning(plan), requantization_warning(source, plan)):
        if message is not None:
            reporter.warn(message)
    outputs = _outputs(plan, output_path(output, source.name, plan.profile.name), fields)
    for path in outputs.paths:
        refuse_input(path)
    started = time.perf_counter()
    if not fields.dry_run and fields.sequential:
        # The compiler of the kernels takes long to load, and only calibrated rounding needs it.
        from toolkit.verbs.calibrated_sequence import rounded_in_sequence

        check_output(outputs.paths[0], force=fields.force)
        with rounded_in_sequence(source, plan, outputs.paths[0], fields, reporter) as plan:
            outputs = _outputs(plan, outputs.paths[0], fields)
            _write(plan, outputs, fields, reporter)
    elif not fields.dry_run:
        _write(plan, outputs, fields, reporter)
    seconds = time.perf_counter() - started
    return ConversionResult(plan, outputs.shards, outputs.paths, not fields.dry_run, seconds)


def output_path(output: Path | None, stem: str, profile_name: str) -> Path:
    """Return the output's path; the default name is the ecosystem's `Name-5M-Q4_K_M.gguf`."""
    default = f"{stem}-{profile_name}.gguf"
    if output is None:
        return Path(default)
    return output / default if _is_folder(output) else output


def refuse_split_name(path: Path) -> None:
    """Refuse a name that says that there are more files.

    Raises InputError.
    """
    if shard_name(path) is not None:
        raise InputError(f"{path.name} is the name of one of several split files, but one whole file would be written")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # a name that is too long, for example: whoever opens it will refuse it


def _outputs(plan: ConversionPlan, path: Path, fields: ConversionFields) -> _Outputs:
    size = None if fields.split_max_size is None else size_bytes(fields.split_max_size)
    shards = split_plan(plan, ShardLimit(size, fields.split_max_tensors))
    if len(shards) == 1:
        refuse_split_name(path)
        return _Outputs(shards, (path,))
    return _Outputs(shards, tuple(shard_path(path, number, len(shards)) for number in range(1, len(shards) + 1)))


def _plan(source: ModelSource, fields: ConversionFields, reporter: Reporter) -> ConversionPlan:
    profile, rounding = load_profile(fields.profile), _rounding(fields)
    imatrix = read_imatrix_for(source, fields.imatrix, reporter)
    if imatrix is None and rounding is not None:
        imatrix = rounding.moments.importance()
    return plan_conversion(source, profile, imatrix, [parse_override(text) for text in fields.tensor_types], rounding)


def _rounding(fields: ConversionFields) -> MomentsRounding | None:
    calibrated = fields.rounding == "calibrated"
    if fields.sequential or fields.text is not None:
        _check_sequential(fields)
        return None
    if calibrated is not (fields.moments is not None):
        raise InputError(
            "--rounding calibrated needs --moments FILE, and --moments is for nothing else; make the file with "
            "`gguf-toolkit imatrix MODEL.gguf --text FILE --moments -o FILE`"
        )
    return None if fields.moments is None else MomentsRounding(open_moments(Path(fields.moments)))


def _check_sequential(fields: ConversionFields) -> None:
    if fields.rounding != "calibrated" or not fields.sequential or fields.text is None or fields.moments is not None:
        raise InputError(
            "--sequential goes with --rounding calibrated and --text FILE, and without --moments, which it collects by itself"
        )
    if fields.split_max_size is not None or fields.split_max_tensors is not None:
        raise InputError("--sequential writes one file; split it afterwards with `quantize --profile keep`")


def _fallback_warning(plan: ConversionPlan) -> tuple[str, ...]:
    if not plan.fallback_share:
        return ()
    count = sum(tensor.fallback_from is not None for tensor in plan.tensors)
    return (
        f"{count} tensors ({plan.fallback_share:.0%} of the weights) have rows that {plan.profile.name}'s types cannot hold "
        f"and got a fallback type; {plan.bits_per_weight:.2f} bits per weight in all",
    )


def _write(plan: ConversionPlan, outputs: _Outputs, fields: ConversionFields, reporter: Reporter) -> None:
    total = sum(tensor.n_bytes for tensor in plan.tensors)
    with reporter.task(outputs.paths[0].name, total, unit="bytes") as task:
        options = ConversionOptions(
            fields.threads,
            fields.force,
            fields.allow_nan,
            task.advance,
            partial(check_finished, shards=outputs.shards, allow_nan=fields.allow_nan),
        )
        if len(outputs.shards) == 1:
            write_gguf(plan, outputs.paths[0], options)
        else:
            write_shards(plan, outputs.shards, outputs.paths, options)
