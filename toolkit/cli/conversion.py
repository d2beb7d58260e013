"""What `convert` and `quantize` share: their options, their dry run, and what they report."""

import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.chat_templates import given_template, writes_chat_template
from toolkit.cli.common import SIZE, Function, emit_json, json_option, note, warn
from toolkit.cli.files import INPUT, INPUT_NAME
from toolkit.cli.kept import kept_document, print_kept
from toolkit.cli.options import add_options, force_option, imatrix_option, threads_option
from toolkit.cli.output import echo
from toolkit.cli.source import told_importance
from toolkit.cli.tables import print_table
from toolkit.gguf.inputs import refuse_input

if TYPE_CHECKING:
    from toolkit.conversion.shards import Shard
    from toolkit.conversion.tensor_plan import ConversionPlan, TensorPlan
    from toolkit.model_source import ModelSource
    from toolkit.rounding.row_rounding import MomentsRounding


@dataclass(frozen=True)
class ConversionRequest:
    """The options that both commands take."""

    profile: str
    imatrix: Path | None
    chat_template: Path | None
    rounding: str
    moments: Path | None
    tensor_types: tuple[str, ...]
    split_max_size: int | None
    split_max_tensors: int | None
    dry_run: bool
    force: bool
    allow_nan: bool
    threads: int | None
    verbose: bool
    as_json: bool


@dataclass(frozen=True)
class Outputs:
    """The files that a plan becomes, one unless it is split, and what they are called."""

    shards: "tuple[Shard, ...]"
    paths: tuple[Path, ...]

    @property
    def file_bytes(self) -> int:
        """Return the bytes of all files."""
        return sum(shard.layout.file_bytes for shard in self.shards)


_OPTIONS = (
    click.option(
        "--profile",
        "-p",
        type=INPUT_NAME,
        default="q4_k_m",
        show_default=True,
        help="Profile name or file; see `profiles list`.",
    ),
    imatrix_option,
    writes_chat_template,
    click.option(
        "--rounding",
        type=click.Choice(["ggml", "calibrated"]),
        default="ggml",
        show_default=True,
        help="ggml: llama.cpp's own bytes. calibrated: the same types, with less error on text like that of --moments.",
    ),
    click.option(
        "--moments", type=INPUT, help="Second moments for --rounding calibrated, from `imatrix GGUF --moments`."
    ),
    click.option(
        "--tensor-type",
        "tensor_types",
        multiple=True,
        metavar="PATTERN=TYPE",
        help="Type for tensors that match; repeatable.",
    ),
    click.option("--split-max-size", type=SIZE, help="Write several files, none larger than this, e.g. 4G."),
    click.option("--split-max-tensors", type=click.IntRange(min=1), help="Write several files of so many tensors."),
    click.option("--dry-run", is_flag=True, help="Print types, sizes and bits per weight; write nothing."),
    force_option,
    click.option("--allow-nan", is_flag=True, help="Go on although weights are NaN or infinite."),
    threads_option,
    click.option("--verbose", "-v", is_flag=True, help="Say what was left out and ignored."),
    json_option,
)


def conversion_options(function: Function) -> Function:
    """Add the options of a ConversionRequest to a command."""
    return add_options(function, _OPTIONS)


def run_conversion(source: "ModelSource", output: Path | None, request: ConversionRequest) -> None:
    """Plan, then (unless it is a dry run) write, and report.

    `output` is a file, a folder for a file of the default name, or None for the current folder.
    """
    from toolkit.conversion.second_rounding import second_rounding_message

    source = given_template(source, request.chat_template)
    plan = _plan(source, request)
    for message in (*source.warnings, *plan.remarks, *_fallback_warning(plan), second_rounding_message(source, plan)):
        if message is not None:
            warn(message)
    if request.verbose:
        for message in source.notes:
            note(message)
    outputs = _outputs(plan, output_path(output, source.name, plan.profile.name), request)
    for path in outputs.paths:
        refuse_input(path)
    started = time.perf_counter()
    if not request.dry_run:
        _write(plan, outputs, request)
    _report(plan, outputs, time.perf_counter() - started, request)


def output_path(output: Path | None, stem: str, profile_name: str) -> Path:
    """Return the output's path; the default name is the ecosystem's `Name-5M-Q4_K_M.gguf`."""
    default = f"{stem}-{profile_name}.gguf"
    if output is None:
        return Path(default)
    return output / default if _is_folder(output) else output


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # a name that is too long, say: whoever opens it will refuse it


def _outputs(plan: "ConversionPlan", path: Path, request: ConversionRequest) -> Outputs:
    from toolkit.conversion.shards import ShardLimit, split_plan
    from toolkit.gguf.shard_names import shard_path

    shards = split_plan(plan, ShardLimit(request.split_max_size, request.split_max_tensors))
    if len(shards) == 1:
        refuse_split_name(path)
        return Outputs(shards, (path,))
    return Outputs(shards, tuple(shard_path(path, number, len(shards)) for number in range(1, len(shards) + 1)))


def refuse_split_name(path: Path) -> None:
    """Refuse a name that says that there are more files."""
    from toolkit.errors import InputError
    from toolkit.gguf.shard_names import shard_name

    if shard_name(path) is not None:
        raise InputError(f"{path.name} is the name of one of several split files, but one whole file would be written")


def _plan(source: "ModelSource", request: ConversionRequest) -> "ConversionPlan":
    from toolkit.conversion.tensor_plan import plan_conversion
    from toolkit.quant_profile import load_profile, parse_override

    profile = load_profile(request.profile)
    rounding = _rounding(request)
    imatrix = told_importance(request.imatrix, source)
    if imatrix is None and rounding is not None:
        imatrix = rounding.moments.importance()
    return plan_conversion(source, profile, imatrix, [parse_override(text) for text in request.tensor_types], rounding)


def _rounding(request: ConversionRequest) -> "MomentsRounding | None":
    from toolkit.errors import InputError

    if (request.rounding == "calibrated") is not (request.moments is not None):
        raise InputError(
            "--rounding calibrated needs --moments FILE, and --moments is for nothing else; make the file with "
            "`gguf-toolkit imatrix MODEL.gguf --text FILE --moments -o FILE`"
        )
    if request.moments is None:
        return None
    from toolkit.importance.moments import open_moments
    from toolkit.rounding.row_rounding import MomentsRounding

    return MomentsRounding(open_moments(request.moments))


def _fallback_warning(plan: "ConversionPlan") -> tuple[str, ...]:
    if not plan.fallback_share:
        return ()
    count = sum(tensor.fallback_from is not None for tensor in plan.tensors)
    return (
        f"{count} tensors ({plan.fallback_share:.0%} of the weights) have rows that {plan.profile.name}'s types cannot hold "
        f"and got a fallback type; {plan.bits_per_weight:.2f} bits per weight in all",
    )


def _write(plan: "ConversionPlan", outputs: Outputs, request: ConversionRequest) -> None:
    from toolkit.cli.progress import progress_bar
    from toolkit.conversion.convert import ConversionOptions, write_gguf, write_shards
    from toolkit.verification.file_check import check_finished

    with progress_bar(outputs.paths[0].name, sum(tensor.n_bytes for tensor in plan.tensors)) as advance:
        options = ConversionOptions(
            request.threads,
            request.force,
            request.allow_nan,
            advance,
            partial(check_finished, shards=outputs.shards, allow_nan=request.allow_nan),
        )
        if len(outputs.shards) == 1:
            write_gguf(plan, outputs.paths[0], options)
        else:
            write_shards(plan, outputs.shards, outputs.paths, options)


def _report(plan: "ConversionPlan", outputs: Outputs, seconds: float, request: ConversionRequest) -> None:
    from toolkit.units import format_duration

    if request.as_json:
        emit_json("convert", document(plan, outputs, seconds, dry_run=request.dry_run))
        return
    if request.dry_run:
        _print_tensors(plan)
    if len(outputs.shards) > 1:
        _print_files(outputs)
    _print_summary(plan, outputs)
    print_kept(plan, every_tensor=request.verbose)
    if not request.dry_run:
        others = f" and {len(outputs.paths) - 1} more" if len(outputs.paths) > 1 else ""
        echo(f"wrote {outputs.paths[0]}{others} in {format_duration(seconds)}")


def document(plan: "ConversionPlan", outputs: Outputs, seconds: float, *, dry_run: bool) -> dict[str, Any]:
    """Return the JSON document of a conversion; `output`, the file or the first of them, is null for a dry run."""
    return {
        "output": None if dry_run else str(outputs.paths[0]),
        "files": [
            {"path": str(path), "file_bytes": shard.layout.file_bytes, "tensors": len(shard.tensors)}
            for path, shard in zip(outputs.paths, outputs.shards, strict=True)
        ],
        "profile": plan.profile.name,
        "file_bytes": outputs.file_bytes,
        "bits_per_weight": plan.bits_per_weight,
        "fallback_share": plan.fallback_share,
        "seconds": seconds,
        "tensors": [
            {"name": tensor.name, "type": tensor.type.name, "shape": list(tensor.shape), "bytes": tensor.n_bytes}
            | kept_document(tensor)
            for tensor in plan.tensors
        ],
    }


def _print_tensors(plan: "ConversionPlan") -> None:
    from toolkit.units import format_size

    rows = [
        (tensor.name, " x ".join(map(str, tensor.shape)), _type_name(tensor), format_size(tensor.n_bytes))
        for tensor in plan.tensors
    ]
    print_table(("tensor", "shape", "type", "bytes"), rows, right=(3,))


def _print_files(outputs: Outputs) -> None:
    from toolkit.units import format_size

    rows = [
        (path.name, str(len(shard.tensors)), format_size(shard.layout.file_bytes))
        for path, shard in zip(outputs.paths, outputs.shards, strict=True)
    ]
    print_table(("file", "tensors", "bytes"), rows, right=(1, 2))


def _type_name(tensor: "TensorPlan") -> str:
    return tensor.type.name + (f" (for {tensor.fallback_from.name})" if tensor.fallback_from else "")


def _print_summary(plan: "ConversionPlan", outputs: Outputs) -> None:
    from toolkit.units import format_count, format_size

    groups: dict[str, list[TensorPlan]] = defaultdict(list)
    for tensor in plan.tensors:
        groups[tensor.type.name].append(tensor)
    total = sum(tensor.n_bytes for tensor in plan.tensors)
    rows = [
        (name, str(len(group)), format_size(size := sum(tensor.n_bytes for tensor in group)), f"{size / total:.1%}")
        for name, group in sorted(groups.items(), key=lambda item: -sum(tensor.n_bytes for tensor in item[1]))
    ]
    print_table(("type", "tensors", "bytes", "share"), rows, right=(1, 2, 3))
    weights = sum(tensor.n_weights for tensor in plan.tensors)
    echo(
        f"{plan.profile.name}: {format_size(outputs.file_bytes)} ({format_count(outputs.file_bytes)} bytes), "
        f"{format_count(weights)} parameters, {plan.bits_per_weight:.2f} bits per weight"
    )
