"""`inspect`: what a GGUF file or a checkpoint holds, without reading its weights."""

from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from toolkit.gguf.reader import read_gguf
from toolkit.model_source import ModelSource, SourceTensor
from toolkit.reporter import Reporter
from toolkit.sources.hf_source import source_from_checkpoint
from toolkit.verbs.model_names import report_warnings, resolve_source
from toolkit.verbs.model_summary import ModelSummary, TensorSummary, summarize, summarize_tensor
from toolkit.verbs.verb import verb

_CONFIGS = ("config.json", "params.json")


@dataclass(frozen=True)
class InspectRequest:
    """A GGUF file or a checkpoint."""

    source: Path | str
    """GGUF file (any part of a split one), directory, model on the hub (org/name[@revision]), or `demo`"""
    _: KW_ONLY
    local_files_only: bool = False
    """for a model on the hub, use the copy in the cache"""


@dataclass(frozen=True)
class GgufContainer:
    """What a GGUF file says of itself as a file."""

    file_bytes: int
    """of all parts"""
    version: int
    alignment: int


@dataclass(frozen=True)
class InspectResult:
    """What a model is and which tensors it has; those of a checkpoint under the names that they get in a GGUF file."""

    paths: tuple[Path, ...]
    """the parts of a GGUF file, or the directory of a checkpoint"""
    container: GgufContainer | None
    """None for a checkpoint"""
    summary: ModelSummary
    tensors: tuple[TensorSummary, ...]


@verb(InspectRequest)
def inspect(request: InspectRequest, reporter: Reporter) -> InspectResult:
    """Show what a model is: architecture, types, bits per weight, context, KV cache, vocabulary, chat template.

    ```python
    result = toolkit.inspect("model-Q4_K_M.gguf")
    print(result.summary.architecture, result.summary.bits_per_weight)
    ```

    A directory is a checkpoint if it has a config.json (or Mistral's params.json), else it holds one GGUF model.

    Raises GgufError for a damaged file, CheckpointError or ConfigError for a checkpoint that cannot be read, HubError if
    its description cannot be fetched.
    """
    with ExitStack() as scratch:
        local = request.local_files_only
        path = resolve_source(str(request.source), reporter, scratch, local_files_only=local, weights=False)
        is_checkpoint = path.is_dir() and any((path / name).exists() for name in _CONFIGS)
        return _inspect_checkpoint(path, reporter) if is_checkpoint else _inspect_gguf(path)


def _inspect_gguf(path: Path) -> InspectResult:
    file = read_gguf(path)
    tensors = tuple(summarize_tensor(name, rows.shape, rows.type) for name, rows in file.tensors.items())
    container = GgufContainer(file.file_bytes, file.version, file.alignment)
    return InspectResult(tuple(file.paths), container, summarize(file.metadata, tensors), tensors)


def _inspect_checkpoint(directory: Path, reporter: Reporter) -> InspectResult:
    model = report_warnings(source_from_checkpoint(directory, norms="plain"), reporter)
    tensors = tuple(_as_stored(tensor, model) for tensor in model.tensors)
    return InspectResult((directory,), None, summarize(model.metadata, tensors), tensors)


def _as_stored(tensor: SourceTensor, model: ModelSource) -> TensorSummary:
    """Return a tensor as the checkpoint stores it, not as it is dequantized."""
    if tensor.packed_bytes is None:
        return summarize_tensor(tensor.name, tensor.shape, tensor.source.type)
    return TensorSummary(tensor.name, tensor.shape, model.quantization or "packed", tensor.packed_bytes)
