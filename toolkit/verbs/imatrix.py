"""`imatrix`: collect an importance matrix or second moments while a GGUF file reads a text."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path

from toolkit.gguf.output_file import check_output
from toolkit.gguf.reader import read_gguf
from toolkit.importance.layers import LayerImportance, layer_importance
from toolkit.importance.matrix import check_against, read_imatrix, read_sums
from toolkit.importance.moments import MomentsHeader, is_moments, merge_moments, open_moments, write_moments
from toolkit.importance.sums import ImatrixSums, merge_sums, write_imatrix
from toolkit.measures.imatrix_collection import Calibration, ImatrixCollector, collect_with
from toolkit.measures.moment_collection import MomentCollector, start_moments
from toolkit.planning.load_plan import LoadedBytes
from toolkit.reporter import Reporter
from toolkit.verbs.devices import Size, size_bytes
from toolkit.verbs.evaluation import TextFields, evaluation_text, load_for_chunks
from toolkit.verbs.loading import load_file
from toolkit.verbs.verb import verb


@dataclass(frozen=True)
class ImatrixRequest(TextFields):
    """A GGUF file, a text, and the file to write."""

    gguf: Path | str
    output: Path | str
    _: KW_ONLY
    process_output: bool = False
    """collect for output.weight as well"""
    parse_special: bool = False
    """read special tokens written in the text as special tokens"""
    moments: bool = False
    """collect second moments, which calibrated rounding takes, instead of an importance matrix"""
    moments_memory: Size = "2GiB"
    """memory for the sums of second moments; where they take more, the text is read several times"""
    force: bool = False
    """replace an existing output"""


@dataclass(frozen=True)
class ImatrixResult:
    """The file that was written, and what it holds: one of `sums` and `moments`."""

    output: Path
    sums: ImatrixSums | None
    moments: MomentsHeader | None
    chunks: int
    devices: tuple[LoadedBytes, ...]
    """empty for merged files"""
    seconds: float


@verb(ImatrixRequest)
def imatrix(request: ImatrixRequest, reporter: Reporter) -> ImatrixResult:
    """Collect an importance matrix of a GGUF file, the one that llama-imatrix writes, or second moments.

    ```python
    toolkit.imatrix("model-BF16.gguf", "model.imatrix.gguf", text="calibration.txt")
    ```

    Raises GgufError for a file that llama.cpp refuses, TextError for a text that is too short, DoesNotFitError if the model
    does not fit, QualityError for values that are NaN or infinite, InputError or OutputError for an output that cannot be written.
    """
    started = time.perf_counter()
    check_output(Path(request.output), force=request.force)
    if request.text is None:
        reporter.warn(
            "the text is Python's manual, good for trying out; give --text FILE of the kind that the model is for"
        )
    text = evaluation_text(request, Path(request.gguf))
    calibration = Calibration(text, request.chunk_tokens, request.chunks, request.process_output, request.parse_special)
    collect = _collect_moments if request.moments else _collect_sums
    return collect(request, calibration, reporter, started)


def _collect_sums(
    request: ImatrixRequest, calibration: Calibration, reporter: Reporter, started: float
) -> ImatrixResult:
    output = Path(request.output)
    n_ctx_seq, collector = request.chunk_tokens, ImatrixCollector(process_output=request.process_output)
    how = load_for_chunks(request, n_ctx_seq, request.chunks, range(n_ctx_seq))
    with (
        load_file(Path(request.gguf), replace(how, on_tensor=collector), n_ctx_seq, reporter) as loaded,
        reporter.task("imatrix") as task,
    ):
        sums, devices = collect_with(loaded.runtime, collector, calibration, task), loaded.devices
    write_imatrix(sums, output, force=request.force)
    warn_of_unseen_experts(sums, reporter)
    return ImatrixResult(output, sums, None, sums.chunks, devices, time.perf_counter() - started)


def _collect_moments(
    request: ImatrixRequest, calibration: Calibration, reporter: Reporter, started: float
) -> ImatrixResult:
    output = Path(request.output)
    n_ctx_seq, collector = request.chunk_tokens, MomentCollector()
    how = load_for_chunks(request, n_ctx_seq, 1, range(n_ctx_seq))
    with (
        load_file(Path(request.gguf), replace(how, on_tensor=collector), n_ctx_seq, reporter) as loaded,
        reporter.task("moments") as task,
    ):
        run, devices = start_moments(loaded.runtime, collector, calibration), loaded.devices
        moments = run.collect(size_bytes(request.moments_memory), task)
        write_moments(output, run.header, moments, force=request.force)
    return ImatrixResult(output, None, run.header, run.chunks.count, devices, time.perf_counter() - started)


def merge_imatrices(files: Sequence[Path], output: Path, reporter: Reporter, *, force: bool = False) -> ImatrixResult:
    """Add up importance matrices of one model, or files of second moments, as if their texts had been one.

    Raises ImatrixError for files of different models, InputError or OutputError for an output that cannot be written.
    """
    started = time.perf_counter()
    if all(map(is_moments, files)):
        header = merge_moments([open_moments(file) for file in files], output, force=force)
        return ImatrixResult(output, None, header, 0, (), time.perf_counter() - started)
    sums = merge_sums([read_sums(file) for file in files])
    write_imatrix(sums, output, force=force)
    warn_of_unseen_experts(sums, reporter)
    return ImatrixResult(output, sums, None, sums.chunks, (), time.perf_counter() - started)


@dataclass(frozen=True)
class ImatrixContents:
    """What an importance matrix covers."""

    file: Path
    sums: ImatrixSums
    layers: tuple[LayerImportance, ...]
    coverage: tuple[str, ...] | None
    """what it lacks for a model, and has besides; None where no model was named"""


def show_imatrix(file: Path, model: Path | None, reporter: Reporter) -> ImatrixContents:
    """Return what an importance matrix covers.

    Raises ImatrixError for a file that is not one, GgufError for a model that cannot be read.
    """
    sums = read_sums(file)
    coverage = None if model is None else tuple(_coverage(file, model))
    warn_of_unseen_experts(sums, reporter)
    return ImatrixContents(file, sums, tuple(layer_importance(sums)), coverage)


def _coverage(file: Path, model: Path) -> Iterable[str]:
    tensors = [(name, rows.shape) for name, rows in read_gguf(model).tensors.items()]
    return check_against(read_imatrix(file), tensors) or [f"every tensor of {model.name} that needs importance has it"]


def warn_of_unseen_experts(sums: ImatrixSums, reporter: Reporter) -> None:
    """Warn of experts that no token was routed to."""
    unseen = {name: entry.unseen for name, entry in sums.entries.items() if entry.unseen}
    if unseen:
        first = next(iter(unseen))
        reporter.warn(
            f"{sum(unseen.values())} experts in {len(unseen)} tensors saw no token ({first}: {unseen[first]}) and will be "
            "quantized without importance; use more text"
        )
