"""A model as a conversion sees it, whether it comes from a Hugging Face checkpoint or from a GGUF file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from toolkit.gguf.format import Metadata
from toolkit.gguf.rows import RowSource
from toolkit.machine.mapped_files import WatchedFile
from toolkit.quant_profile import ModelTraits


@dataclass(frozen=True)
class KeptBlocks:
    """A tensor in quant blocks of GGUF that hold exactly the codes of its source."""

    rows: RowSource
    worst_difference: float
    """of a weight from that of the source: 0, or one rounding of a minimum to float16"""


def no_quant_blocks() -> KeptBlocks | None:
    """Return None: the source stores the tensor as floats, or on a grid for which GGUF has no quant blocks."""
    return None


@dataclass(frozen=True)
class SourceTensor:
    """A tensor under its GGUF name; shape with the row length last."""

    name: str
    source: RowSource
    packed_bytes: int | None = None
    """bytes in the source, where that stores codes instead of floats"""
    blocks: Callable[[], KeptBlocks | None] = no_quant_blocks
    """gives its codes in GGUF's quant blocks, if GGUF has such; reads the scales, but no codes"""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape, row length last."""
        return self.source.shape


@dataclass(frozen=True)
class ModelSource:
    """Everything that a conversion needs to know about a model; no weight is read for it."""

    name: str
    """what output files are named after, without type and suffix"""
    metadata: Metadata
    """all keys but general.file_type"""
    tensors: tuple[SourceTensor, ...]
    traits: ModelTraits
    keeps_types: bool
    """True where a tensor that no profile quantizes stays as it is (GGUF), False where it is stored as the converter's
    default (a checkpoint)"""
    quantization: str | None = None
    """method and bits, where it is quantized already: `gptq, 4 bits`"""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """messages that only --verbose prints"""
    n_stored: int = 0
    """number of tensors that the checkpoint stores; 0 for a GGUF file"""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """stored tensors that a GGUF file does not need: name -> why"""
    files: tuple[WatchedFile, ...] = ()
    """the files that weights are read from, as they were when their headers were read"""


def unquantized_profile(source: ModelSource) -> str:
    """Return the name of the profile that stores a source without loss, or at 16 bits where it is quantized."""
    # What was quantized is dequantized to F32, and F16 holds as much of it as can matter.
    types = {
        "F16" if tensor.packed_bytes is not None else tensor.source.type.name
        for tensor in source.tensors
        if len(tensor.shape) > 1
    }
    return "f32" if "F32" in types else "f16" if types == {"F16"} else "bf16"
