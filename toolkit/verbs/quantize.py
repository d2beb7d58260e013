"""`quantize`: a GGUF file to another mixture of types, through the same pipeline as `convert`."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from toolkit.gguf.inputs import read_here
from toolkit.model_source import ModelSource
from toolkit.reporter import Reporter
from toolkit.sources.gguf_source import source_from_gguf
from toolkit.verbs.conversion import ConversionFields, ConversionResult, convert_source
from toolkit.verbs.verb import verb


@dataclass(frozen=True)
class QuantizeRequest(ConversionFields):
    """A GGUF file (one, or any of llama.cpp's split files), and what it should become."""

    source: Path | str
    output: Path | str | None = None
    """file, or folder for a file that is called after the model and the profile; None is the current folder"""
    _: KW_ONLY
    allow_requantize: bool = False
    """accept a file that is at 4 bits or less already"""


@dataclass(frozen=True)
class QuantizeResult(ConversionResult):
    """The plan of a conversion, and the files that it became."""

    source: ModelSource


@verb(QuantizeRequest)
def quantize(request: QuantizeRequest, reporter: Reporter) -> QuantizeResult:
    """Requantize a GGUF file.

    ```python
    toolkit.quantize("model-BF16.gguf", "model-Q4_K_M.gguf", profile="q4_k_m", imatrix="model.imatrix.gguf")
    ```

    Raises GgufError for a file that cannot be read or has too few bits already, ProfileError or ImatrixError for a profile
    or a matrix that does not fit it, InputError or OutputError for an output that cannot be written.
    """
    path = Path(request.source)
    read_here(path)
    source = source_from_gguf(path, allow_requantize=request.allow_requantize)
    output = None if request.output is None else Path(request.output)
    result = convert_source(source, output, request, reporter)
    return QuantizeResult(result.plan, result.shards, result.paths, result.written, result.seconds, source)
