"""The types that weights can be turned into, and what replaces a type where its quant blocks do not fit.

Source: `tensor_type_fallback` and `tensor_requires_imatrix` in src/llama-quant.cpp of llama.cpp (commit 0c1e570).
"""

from toolkit.errors import ProfileError
from toolkit.gguf.ggml_types import F16, FLOAT_TYPES, TYPES, TensorType, tensor_type

READ_ONLY = ("NVFP4", "Q1_0", "Q2_0")
"""Types for models that were trained in them: other weights lose too much in them, or they need scales in tensors beside them."""
WEIGHT_TYPES = {
    name: type_ for name, type_ in TYPES.items() if (type_.quantized and name not in READ_ONLY) or type_ in FLOAT_TYPES
}
NEED_IMATRIX = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS")
"""Types that give garbage without an importance matrix."""

_FALLBACKS = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}


def weight_type(name: str) -> TensorType:
    """Return a type that weights can be turned into, by its name in any case.

    Raises ProfileError if there is none of that name.
    """
    type_ = tensor_type(name)
    if type_.name not in WEIGHT_TYPES:
        raise ProfileError(f"weights cannot be stored as {type_.name}; types for weights: {', '.join(WEIGHT_TYPES)}")
    return type_


def fitting_type(wanted: TensorType, row_length: int) -> TensorType:
    """Return the type itself, or what replaces it where a row is not a whole number of its quant blocks."""
    if wanted.holds_rows_of(row_length):
        return wanted
    fallback = TYPES[_FALLBACKS.get(wanted.name, wanted.name)]
    return fallback if fallback.holds_rows_of(row_length) else F16
