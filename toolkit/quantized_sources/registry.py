"""Checkpoints that are quantized already: which formats are read, and how a checkpoint says that it is in one of them.

A new format is a module of its own with a `QuantizedFormat`, and an entry in FORMATS.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from toolkit.checkpoint.checkpoint import Checkpoint
from toolkit.checkpoint.config_spelling import whole_numbers
from toolkit.checkpoint.tensor import CheckpointTensor
from toolkit.errors import CheckpointError
from toolkit.json_files import read_json_object
from toolkit.quantized_sources.auto_round import AUTO_ROUND
from toolkit.quantized_sources.awq import AWQ
from toolkit.quantized_sources.bitsandbytes import BITSANDBYTES
from toolkit.quantized_sources.compressed_tensors import COMPRESSED_TENSORS
from toolkit.quantized_sources.fp4 import MXFP4
from toolkit.quantized_sources.fp8 import FP8
from toolkit.quantized_sources.gptq import GPTQ
from toolkit.quantized_sources.hqq import HQQ
from toolkit.quantized_sources.mlx import MLX
from toolkit.quantized_sources.modelopt import MODELOPT
from toolkit.quantized_sources.quantized_format import ADVICE, Declaration, DecodedTensors, Parts, QuantizedFormat
from toolkit.quantized_sources.torchao import TORCHAO

FORMATS: tuple[QuantizedFormat, ...] = (
    GPTQ, AWQ, BITSANDBYTES, FP8, COMPRESSED_TENSORS, MODELOPT, MXFP4, MLX, HQQ, AUTO_ROUND, TORCHAO,
)  # fmt: skip
METHODS = {name: format_ for format_ in FORMATS for name in format_.names}
"""quant_method -> format"""
_OLDER_NAMES = {older: format_.names[0] for format_ in FORMATS for older in format_.older_names}
_ENDINGS = (
    *((ending, format_.library) for format_ in FORMATS for ending in format_.endings),
    ("._data", "optimum-quanto"),
    ("._scale", "optimum-quanto"),
    (".codebooks", "AQLM"),
)
"""endings of tensor names that only a quantized checkpoint has, and the library that writes them; the last are not read"""
ACTIVATION_SCALES = re.compile(
    r".*[._]((input|output|activation|[kvqp]|prob|kv)_(scale|zero_point|global_scale|scale_inv)|qscale_act"
    r"|kv_cache_scaling_factor|[kv]_cache_scale)"
)
"""scales of activations and of the KV cache, which a GGUF file has no place for"""


def decode_checkpoint(checkpoint: Checkpoint) -> tuple[Checkpoint, tuple[str, ...]]:
    """Return the checkpoint with dequantized tensors in place of packed ones, and warnings; a plain checkpoint as it is.

    Only companions of a few bytes are read.

    Raises CheckpointError for a method or variant that is not read, for packed tensors that config.json does not
    describe, and for incomplete sets.
    """
    declaration = find_declaration(checkpoint.directory, checkpoint.config)
    if declaration is None:
        _refuse_packed(checkpoint.tensors, "config.json has no quantization_config that describes it")
        return checkpoint, ()
    decoded = _decode(Parts(checkpoint.tensors, declaration))
    left_out = dict(decoded.left_out) | {
        name: "scales of activations or of the KV cache, which GGUF has no place for"
        for name in checkpoint.tensors
        if ACTIVATION_SCALES.fullmatch(name)
    }
    replaced = decoded.packed_names | left_out.keys()
    plain = {name: tensor for name, tensor in checkpoint.tensors.items() if name not in replaced}
    _refuse_packed(plain, f"the weight that it describes is missing, or not stored by {declaration.method}")
    notes = [f"left out {count} tensors: {why}" for why, count in Counter(left_out.values()).items()]
    tensors: dict[str, CheckpointTensor] = {**plain, **decoded.tensors}
    result = replace(
        checkpoint,
        tensors=tensors,
        notes=(*checkpoint.notes, *notes),
        left_out=left_out,
        quantization=_title(declaration),
    )
    return result, decoded.warnings


def find_declaration(directory: Path, config: Mapping[str, Any]) -> Declaration | None:
    """Return what config.json, or a file beside it that older tools wrote, declares; None if nothing does.

    Raises CheckpointError if it is malformed.
    """
    text_config = config.get("text_config")
    for values in (config, text_config if isinstance(text_config, dict) else {}):
        for key in ("quantization_config", "compression_config", "quantization"):
            if values.get(key) is not None:
                return _from_config(key, values[key])
    declaring = next((each for each in FORMATS if each.file is not None and (directory / each.file).is_file()), None)
    return _from_file(directory, declaring) if declaring is not None else None


def _from_config(key: str, settings: Any) -> Declaration:
    if not isinstance(settings, dict):
        raise CheckpointError(f"config.json: {key} is {str(settings)[:60]!r}, expected an object")
    method = settings.get("quant_method")
    if method is None:
        method = next((format_.names[0] for format_ in FORMATS if format_.implied_by(settings)), None)
    name = str(method or "unnamed").lower()
    return Declaration(_OLDER_NAMES.get(name, name), settings, "config.json")


def _from_file(directory: Path, format_: QuantizedFormat) -> Declaration:
    file = str(format_.file)
    settings = whole_numbers(read_json_object(directory / file))
    nested = settings.get("quantization")
    return Declaration(format_.names[0], nested if isinstance(nested, dict) else settings, file)


def _decode(parts: Parts) -> DecodedTensors:
    declaration = parts.declaration
    format_ = METHODS.get(declaration.method)
    if format_ is None:
        raise CheckpointError(
            f"the checkpoint is already quantized ({_title(declaration)}; first module {_first_module(parts)}), "
            f"which cannot be read; known: {', '.join(METHODS)}; {ADVICE}"
        )
    decoded = format_.decode(parts)
    if not decoded.tensors:
        raise CheckpointError(
            f"{declaration.file} says that the checkpoint is quantized ({_title(declaration)}), but no tensor is stored "
            f"that way (first: {next(iter(parts.tensors))}); if the weights are plain, remove its quantization_config"
        )
    return decoded


def _title(declaration: Declaration) -> str:
    settings = declaration.settings
    bits = settings.get("bits") or settings.get("w_bit")
    format_ = settings.get("format")
    return declaration.method + (f", {bits} bits" if bits else "") + (f", {format_}" if format_ else "")


def _first_module(parts: Parts) -> str:
    names = (
        name.rpartition(".")[0] for name, tensor in parts.tensors.items() if tensor.dtype not in ("F32", "F16", "BF16")
    )
    return next(names, next(iter(parts.tensors)).rpartition(".")[0])


def _refuse_packed(names: Iterable[str], why: str) -> None:
    """Refuse tensors that belong to a quantized checkpoint by their names."""
    for name in names:
        libraries = list(dict.fromkeys(library for ending, library in _ENDINGS if name.endswith(ending)))
        if libraries:
            either = " or ".join(filter(None, (", ".join(libraries[:-1]), libraries[-1])))
            raise CheckpointError(f"{name} belongs to a quantized checkpoint ({either}), but {why}; {ADVICE}")
