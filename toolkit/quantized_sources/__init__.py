"""Checkpoints that are already quantized: packed tensors become tensors whose rows are dequantized as they are read."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from toolkit.checkpoint import Checkpoint
from toolkit.checkpoint_tensor import CheckpointTensor
from toolkit.errors import CheckpointError
from toolkit.quantized_sources.awq import open_awq
from toolkit.quantized_sources.bitsandbytes import open_bitsandbytes
from toolkit.quantized_sources.compressed_tensors import open_compressed_tensors
from toolkit.quantized_sources.declaration import ADVICE, Declaration, find_declaration
from toolkit.quantized_sources.dequantized import DequantizedTensor, Opened
from toolkit.quantized_sources.fp8 import ACTIVATION_SCALES, open_fp8
from toolkit.quantized_sources.gptq import open_gptq
from toolkit.quantized_sources.hqq import open_hqq
from toolkit.quantized_sources.mlx import open_mlx
from toolkit.quantized_sources.modelopt import open_modelopt
from toolkit.quantized_sources.mxfp4 import open_mxfp4
from toolkit.quantized_sources.parts import Parts
from toolkit.quantized_sources.repack import repacked

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
}
LOSSLESS = ("mxfp4",)
"""methods whose blocks GGUF holds as they are"""

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
    "._data": "optimum-quanto",
    "._scale": "optimum-quanto",
    ".W_q": "HQQ",
    ".codebooks": "AQLM",
    ".scales": "GPTQ, AWQ or MLX",
}
"""endings of tensor names that only a quantized checkpoint has, and the library that writes them"""


def open_quantized(checkpoint: Checkpoint, *, keep: bool = False) -> tuple[Checkpoint, tuple[str, ...]]:
    """Return the checkpoint with plain tensors in place of packed ones, and warnings; a plain checkpoint as it is.

    With `keep`, tensors whose grid GGUF has come as rows of Q4_0, Q4_1 or Q8_0 blocks with the integers of the source;
    their scales are read for that. Without, only companions of a few bytes are read.

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
    made, kept_count, worst = _repacked(opened.made) if keep else (dict(opened.made), 0, 0.0)
    tensors: dict[str, CheckpointTensor] = {**kept, **made}
    if kept_count:
        notes.append(f"kept {kept_count} of {len(made)} tensors in their own grid, at most {worst:.3g} from the source")
    warnings = (*opened.warnings, *_second_rounding(declaration, len(made) - kept_count))
    return replace(checkpoint, tensors=tensors, notes=(*checkpoint.notes, *notes), left_out=dropped), warnings


def _repacked(made: Mapping[str, DequantizedTensor]) -> tuple[dict[str, DequantizedTensor], int, float]:
    """Return the tensors, those in GGUF's blocks that can be; how many these are, and the worst difference."""
    found = {name: result for name, tensor in made.items() if (result := repacked(tensor)) is not None}
    tensors = {name: found[name].tensor if name in found else tensor for name, tensor in made.items()}
    return tensors, len(found), max((result.worst_difference for result in found.values()), default=0.0)


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


def _second_rounding(declaration: Declaration, count: int) -> tuple[str, ...]:
    if declaration.method in LOSSLESS or not count:
        return ()
    return (
        f"the checkpoint is already quantized ({_title(declaration)}): {count} tensors are dequantized, exactly, and "
        "rounding them to a smaller type is a second rounding; the original in bf16 or f16 gives a better file",
    )
