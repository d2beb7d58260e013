"""The tensor types of ggml: how many weights a quant block holds and how many bytes it takes; and the mixtures of them.

Sizes: `ggml_type_traits` in ggml/src/ggml.c and ggml-common.h of llama.cpp (commit 0c1e570).
"""

import math
from dataclasses import dataclass

from toolkit.errors import ProfileError


@dataclass(frozen=True, slots=True)
class TensorType:
    """A type that a tensor's elements are stored in."""

    name: str
    ggml_id: int
    block_length: int
    block_bytes: int

    @property
    def quantized(self) -> bool:
        """Tell whether elements share a quant block, as opposed to being stored one by one."""
        return self.block_length > 1

    @property
    def bits_per_weight(self) -> float:
        """Return the average number of bits per element."""
        return 8 * self.block_bytes / self.block_length

    def holds_rows_of(self, row_length: int) -> bool:
        """Tell whether a row of `row_length` elements is a whole number of quant blocks."""
        return row_length % self.block_length == 0

    def row_bytes(self, row_length: int) -> int:
        """Return the bytes of a row of `row_length` elements, which must be whole quant blocks."""
        if not self.holds_rows_of(row_length):
            raise ValueError(f"a row of {row_length} elements is not a whole number of {self.name} blocks")
        return row_length // self.block_length * self.block_bytes

    def tensor_bytes(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of a tensor of `shape` (row length last)."""
        return math.prod(shape[:-1]) * self.row_bytes(shape[-1])


_TABLE = (
    ("F32", 0, 1, 4), ("F16", 1, 1, 2), ("Q4_0", 2, 32, 18), ("Q4_1", 3, 32, 20), ("Q5_0", 6, 32, 22),
    ("Q5_1", 7, 32, 24), ("Q8_0", 8, 32, 34), ("Q2_K", 10, 256, 84), ("Q3_K", 11, 256, 110),
    ("Q4_K", 12, 256, 144), ("Q5_K", 13, 256, 176), ("Q6_K", 14, 256, 210), ("IQ2_XXS", 16, 256, 66),
    ("IQ2_XS", 17, 256, 74), ("IQ3_XXS", 18, 256, 98), ("IQ1_S", 19, 256, 50), ("IQ4_NL", 20, 32, 18),
    ("IQ3_S", 21, 256, 110), ("IQ2_S", 22, 256, 82), ("IQ4_XS", 23, 256, 136), ("I8", 24, 1, 1),
    ("I16", 25, 1, 2), ("I32", 26, 1, 4), ("I64", 27, 1, 8), ("F64", 28, 1, 8), ("IQ1_M", 29, 256, 56),
    ("BF16", 30, 1, 2), ("TQ1_0", 34, 256, 54), ("TQ2_0", 35, 256, 66), ("MXFP4", 39, 32, 17),
    ("NVFP4", 40, 64, 36), ("Q1_0", 41, 128, 18), ("Q2_0", 42, 64, 18),
)  # fmt: skip

TYPES: dict[str, TensorType] = {name: TensorType(name, *rest) for name, *rest in _TABLE}
TYPES_BY_ID: dict[int, TensorType] = {type_.ggml_id: type_ for type_ in TYPES.values()}

F32, F16, BF16, Q8_0 = TYPES["F32"], TYPES["F16"], TYPES["BF16"], TYPES["Q8_0"]
FLOAT_TYPES = (F32, F16, BF16)


def tensor_type(name: str) -> TensorType:
    """Return the type of that name, in any case.

    Raises ProfileError if there is no such type.
    """
    type_ = TYPES.get(name.upper())
    if type_ is None:
        raise ProfileError(f"{name!r} is not a tensor type; known: {', '.join(TYPES)}")
    return type_


FILE_TYPES = {
    "ALL_F32": 0, "MOSTLY_F16": 1, "MOSTLY_Q4_0": 2, "MOSTLY_Q4_1": 3, "MOSTLY_Q8_0": 7, "MOSTLY_Q5_0": 8,
    "MOSTLY_Q5_1": 9, "MOSTLY_Q2_K": 10, "MOSTLY_Q3_K_S": 11, "MOSTLY_Q3_K_M": 12, "MOSTLY_Q3_K_L": 13,
    "MOSTLY_Q4_K_S": 14, "MOSTLY_Q4_K_M": 15, "MOSTLY_Q5_K_S": 16, "MOSTLY_Q5_K_M": 17, "MOSTLY_Q6_K": 18,
    "MOSTLY_IQ2_XXS": 19, "MOSTLY_IQ2_XS": 20, "MOSTLY_Q2_K_S": 21, "MOSTLY_IQ3_XS": 22, "MOSTLY_IQ3_XXS": 23,
    "MOSTLY_IQ1_S": 24, "MOSTLY_IQ4_NL": 25, "MOSTLY_IQ3_S": 26, "MOSTLY_IQ3_M": 27, "MOSTLY_IQ2_S": 28,
    "MOSTLY_IQ2_M": 29, "MOSTLY_IQ4_XS": 30, "MOSTLY_IQ1_M": 31, "MOSTLY_BF16": 32, "MOSTLY_TQ1_0": 36,
    "MOSTLY_TQ2_0": 37, "MOSTLY_MXFP4_MOE": 38,
}  # fmt: skip
"""The values of general.file_type, which names the mixture of types in a file (`llama_ftype` in llama.cpp's llama.h)."""


def mixture_name(file_type: int) -> str | None:
    """Return what a mixture is called: Q4_K_M, F32; None where llama.cpp knows no such number."""
    names = {number: name.removeprefix("MOSTLY_").removeprefix("ALL_") for name, number in FILE_TYPES.items()}
    return names.get(file_type)
