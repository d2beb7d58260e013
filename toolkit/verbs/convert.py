"""`convert`: a Hugging Face checkpoint to GGUF, in one pass."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal

from toolkit.errors import InputError
from toolkit.model_source import ModelSource
from toolkit.reporter import Reporter
from toolkit.sources.hf_source import source_from_checkpoint
from toolkit.sources.metadata_overrides import parse_overrides
from toolkit.sources.upstream_converter import find_converter, source_from_converter
from toolkit.verbs.conversion import ConversionFields, ConversionResult, convert_source
from toolkit.verbs.devices import PathName
from toolkit.verbs.model_names import resolve_preview, resolve_source
from toolkit.verbs.verb import verb


@dataclass(frozen=True)
class ConvertRequest(ConversionFields):
    """A checkpoint, and what it should become."""

    source: Path | str
    """directory, model on the hub (org/name[@revision]), or `demo`"""
    output: Path | str | None = None
    """file, or folder for a file that is called after the model and the profile; None is the current folder"""
    _: KW_ONLY
    pre: str | None = None
    """name of the BPE pre-tokenizer, where it is not recognised"""
    model_name: str | None = None
    """None is that of the model's card, config or directory"""
    metadata: Sequence[str] = ()
    """KEY=VALUE for general.* keys, or JSON files of them"""
    dense_modules: bool = False
    """include the layers after pooling of an embedder"""
    norms: Literal["checked", "plain", "shifted"] = "checked"
    """whether 1 was added already to norms that llama.cpp wants so (`shifted`) or not (`plain`); `checked`: the values decide"""
    local_files_only: bool = False
    """for a model on the hub, use the copy in the cache"""
    converter: PathName | None = None
    """checkout of llama.cpp whose own converter is run first"""
    converter_python: str = sys.executable
    """interpreter for it, with torch and what else it needs"""


@dataclass(frozen=True)
class ConvertResult(ConversionResult):
    """The plan of a conversion, and the files that it became."""

    source: ModelSource


@verb(ConvertRequest)
def convert(request: ConvertRequest, reporter: Reporter) -> ConvertResult:
    """Convert a checkpoint to a GGUF file in one pass, with no intermediate file and no tensor held whole in memory.

    ```python
    result = toolkit.convert("checkpoint", profile="q4_k_m")
    print(result.paths[0], result.plan.bits_per_weight)
    ```

    Raises CheckpointError, ConfigError, TensorError or TokenizerError for a checkpoint that cannot be converted, ProfileError or
    ImatrixError for a profile or a matrix that does not fit it, InputError or OutputError for an output that cannot be written,
    HubError if the checkpoint cannot be fetched.
    """
    overrides = parse_overrides(tuple(request.metadata), request.model_name)
    output = None if request.output is None else Path(request.output)
    _refuse_beside_converter(request)
    resolve = resolve_preview if request.dry_run else resolve_source
    with ExitStack() as scratch:
        directory = resolve(str(request.source), reporter, scratch, local_files_only=request.local_files_only)
        if request.converter is None:
            source = source_from_checkpoint(
                directory,
                request.pre,
                overrides=overrides,
                dense_modules=request.dense_modules,
                norms=request.norms,
            )
        else:
            converter = find_converter(Path(request.converter), request.converter_python)
            source = source_from_converter(directory, output, converter, reporter, scratch)
        result = convert_source(source, output, request, reporter)
    return ConvertResult(result.plan, result.shards, result.paths, result.written, result.seconds, source)


def _refuse_beside_converter(request: ConvertRequest) -> None:
    """Refuse what would be ignored: the converter decides on vocabulary and names, and it does not run dry."""
    if request.converter is None:
        return
    given = {
        "--pre": request.pre,
        "--model-name": request.model_name,
        "--metadata": request.metadata,
        "--dry-run": request.dry_run,
    }
    first = next((option for option, value in given.items() if value), None)
    if first is not None:
        raise InputError(f"{first} does not go with --converter")
