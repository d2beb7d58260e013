"""Checkpoints that are already quantized: packed tensors become tensors whose rows are dequantized as they are read."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from toolkit.checkpoint.checkpoint import Checkpoint
from toolkit.checkpoint.tensor import CheckpointTensor
from toolkit.errors import CheckpointError
from toolkit.quantized_sources.auto_round import open_auto_round
from toolkit.quantized_sources.awq import open_awq
from toolkit.quantized_sources.bitsandbytes import open_bitsandbytes
from toolkit.quantized_sources.compressed_tensors import open_compressed_tensors
from toolkit.quantized_sources.declaration import ADVICE, Declaration, find_declaration
from toolkit.quantized_sources.dequantized import Opened
from toolkit.quantized_sources.fp8 import ACTIVATION_SCALES, open_fp8
from toolkit.quantized_sources.gptq import open_gptq
from toolkit.quantized_sources.hqq import open_hqq
from toolkit.quantized_sources.mlx import open_mlx
from toolkit.quantized_sources.modelopt import open_modelopt
from toolkit.quantized_sources.mxfp4 import open_mxfp4
from toolkit.quantized_sources.parts import Parts
from toolkit.quantized_sources.torchao import open_torchao

METHODS: dict[str, Callable[[Parts], Opened]] = {
    "gptq": open_gptq,
    "awq": open_awq,
    "bitsandbytes": open_bitsandbytes,
    "fp8": open_fp8,
    "fbgemm_fp8": open_fp8,
    "compressed-tensors": open_compressed_tensors,
    "modelopt": open_modelopt,
    "mxfp4": open_mxfp4,
    "mlx": open_mlx,
    "hqq": open_hqq,
    "auto-round": open_auto_round,
    "torchao": open_torchao,
}
_SIGNS = {
    ".qweight": "GPTQ or AWQ",
    ".qzeros": "GPTQ or AWQ",
    ".weight_packed": "compressed-tensors",
    ".weight_scale": "FP8 or compressed-tensors",
    ".weight_scale_inv": "FP8",
    ".qscale_weight": "FP8",
    ".absmax": "bitsandbytes",
    ".quant_map": "bitsandbytes",
    ".SCB": "bitsandbytes",
    "_qdata": "torchao",
    "._data": "optimum-quanto",
    "._scale": "optimum-quanto",
    ".W_q": "HQQ",
    ".codebooks": "AQLM",
    ".scales": "GPTQ, AWQ or MLX",
}
"""endings of tensor names that only a quantized checkpoint has, and the library that writes them"""


def open_quantized(checkpoint: Checkpoint) -> tuple[Checkpoint, tuple[str, ...]]:
    """Return the checkpoint with plain tensors in place of packed ones, and warnings; a plain checkpoint as it is.

    Only companions of a few bytes are read.

    Raises CheckpointError for a method or variant that is not read, for packed tensors that config.json does not
    describe, and for incomplete sets.
    """
    declaration = find_declaration(checkpoint.directory, checkpoint.config)
    if declaration is None:
        _refuse_signs(checkpoint.tensors, "config.json has no quantization_config that describes it")
        return checkpoint, ()
    opened = _open(Parts(checkpoint.tensors, declaration))
    dropped = dict(opened.dropped) | {
        name: "scales of activations or of the KV cache, which GGUF has no place for"
        for name in checkpoint.tensors
        if ACTIVATION_SCALES.fullmatch(name)
    }
    gone = opened.used | dropped.keys()
    kept = {name: tensor for name, tensor in checkpoint.tensors.items() if name not in gone}
    _refuse_signs(kept, f"the weight that it describes is missing, or not stored by {declaration.method}")
    notes = [f"left out {count} tensors: {why}" for why, count in Counter(dropped.values()).items()]
    tensors: dict[str, CheckpointTensor] = {**kept, **opened.made}
    described = replace(
        checkpoint,
        tensors=tensors,
        notes=(*checkpoint.notes, *notes),
        left_out=dropped,
        quantization=_title(declaration),
    )
    return described, opened.warnings


def _open(parts: Parts) -> Opened:
    declaration = parts.declaration
    open_ = METHODS.get(declaration.method)
    if open_ is None:
        raise CheckpointError(
            f"the checkpoint is already quantized ({_title(declaration)}; first module {_first_module(parts)}), "
            f"which cannot be read; known: {', '.join(METHODS)}; {ADVICE}"
        )
    opened = open_(parts)
    if not opened.made:
        raise CheckpointError(
            f"{declaration.file} says that the checkpoint is quantized ({_title(declaration)}), but no tensor is stored "
            f"that way (first: {next(iter(parts.tensors))}); if the weights are plain, remove its quantization_config"
        )
    return opened


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


def _refuse_signs(tensors: dict[str, CheckpointTensor], why: str) -> None:
    for name in tensors:
        library = next((library for sign, library in _SIGNS.items() if name.endswith(sign)), None)
        if library is not None:
            raise CheckpointError(f"{name} belongs to a quantized checkpoint ({library}), but {why}; {ADVICE}")
