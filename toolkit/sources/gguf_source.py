"""From a GGUF file to a ModelSource, so that requantizing is the same pipeline as converting."""

import re
from pathlib import Path

from toolkit.errors import GgufError, InputError
from toolkit.gguf.format import QUANTIZATION_VERSION, Metadata, uint32
from toolkit.gguf.ggml_types import TensorType
from toolkit.gguf.reader import GgufFile, read_gguf
from toolkit.gguf.shard_names import stem
from toolkit.machine.mapped_files import as_mapped
from toolkit.model_source import ModelSource, SourceTensor
from toolkit.quant_profile import ModelTraits

FEW_BITS = 5.0
"""Below this many bits per weight, the error of quantizing again adds to one that is large already."""
_TYPE_SUFFIX = re.compile(r"[-.](f16|f32|bf16|i?q\d\w*|tq\d\w*|mxfp4\w*)$", re.IGNORECASE)


def source_from_gguf(path: Path, *, allow_requantize: bool = False) -> ModelSource:
    """Return the model in a GGUF file, or in the set of split files that `path` is one of.

    Raises GgufError if the file is damaged, InputError if it is at 4 bits or less already and `allow_requantize` is not
    set.
    """
    file = read_gguf(path)
    few_bits = _types_of_few_bits(file)
    if few_bits and not allow_requantize:
        raise InputError(
            f"{path.name} is quantized already ({', '.join(few_bits)}); requantization adds to the error: start from a "
            "bf16, f16 or q8_0 file (`quantize --allow-requantize` does it anyway)"
        )
    return ModelSource(
        name=_stem(path),
        metadata=_metadata(file),
        tensors=tuple(SourceTensor(name, rows) for name, rows in file.tensors.items()),
        traits=traits_from_metadata(file.metadata),
        keeps_types=True,
        quantization=", ".join(few_bits) or None,
        files=as_mapped(file.paths),
    )


def traits_from_metadata(metadata: Metadata) -> ModelTraits:
    """Return what mixtures depend on, from a file's metadata.

    Raises GgufError if the file is not a model.
    """
    architecture = metadata.get("general.architecture")
    if architecture is None or not isinstance(architecture.value, str):
        raise GgufError("the file has no general.architecture; it is not a model")
    name = architecture.value
    heads = _integer(metadata, f"{name}.attention.head_count", 0)
    return ModelTraits(
        architecture=name,
        n_layer=_integer(metadata, f"{name}.block_count", 0),
        n_head=heads,
        n_head_kv=_integer(metadata, f"{name}.attention.head_count_kv", heads),
        n_expert=_integer(metadata, f"{name}.expert_count", 0),
    )


def _integer(metadata: Metadata, key: str, default: int) -> int:
    """Return a number; of an array with one for every block the first, as llama.cpp's mixtures do."""
    entry = metadata.get(key)
    if entry is None:
        return default
    first = next(iter(entry.value), default) if isinstance(entry.value, tuple) else entry.value
    return first if isinstance(first, int) else default


def _types_of_few_bits(file: GgufFile) -> list[str]:
    types: set[TensorType] = {rows.type for rows in file.tensors.values()}
    return sorted(type_.name for type_ in types if type_.quantized and type_.bits_per_weight < FEW_BITS)


def _metadata(file: GgufFile) -> Metadata:
    whole = {key: value for key, value in file.metadata.items() if not key.startswith("split.")}
    return whole | {"general.quantization_version": uint32(QUANTIZATION_VERSION)}


def _stem(path: Path) -> str:
    """Return the name without split number and type: `Name-5M-BF16` becomes `Name-5M`."""
    name = stem(path)
    return _TYPE_SUFFIX.sub("", name) or name
