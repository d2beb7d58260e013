"""Rope scaling: what llama.cpp reads from metadata, and the frequency factors that it reads from a tensor."""

import math
from dataclasses import replace

import numpy
from numpy.typing import NDArray

from toolkit.architectures.parts.dimensions import head_dim
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError
from toolkit.gguf.format import Metadata, ValueType, array, boolean, float32, is_number, string, uint32

LONGROPE = ("longrope", "su")
_LLAMA3_DEFAULTS = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
_YARN_EXTRAS = {
    "extrapolation_factor": "yarn_ext_factor",
    "attention_factor": "yarn_attn_factor",
    "attn_factor": "yarn_attn_factor",
    "beta_fast": "yarn_beta_fast",
    "beta_slow": "yarn_beta_slow",
}


def rope_metadata(config: ModelConfig, architecture: str) -> Metadata:
    """Return `*.rope.*` keys for the types default, linear, yarn, longrope and llama3.

    Raises ConfigError for another type, or for one whose parameters are missing.
    """
    prefix = f"{architecture}.rope"
    metadata = {f"{prefix}.scaling.{key}": value for key, value in _scaling(config).items()}
    metadata[f"{prefix}.freq_base"] = float32(rope_theta(config))
    local = _local_theta(config)
    if local is not None:
        metadata[f"{prefix}.freq_base_swa"] = float32(local)
    sections = global_rope(config).integer_list("mrope_section", [])
    if sections:
        metadata[f"{prefix}.dimension_sections"] = array(ValueType.INT32, [*sections, 0, 0, 0, 0][:4])
    return metadata


def _scaling(config: ModelConfig) -> Metadata:
    rope = global_rope(config)
    scaling = rope.text("rope_type")
    if scaling in LONGROPE:
        return {"type": string("longrope")}
    if scaling not in ("linear", "yarn"):
        return {}
    metadata: Metadata = {"type": string(scaling), "factor": float32(rope.number("factor"))}
    if scaling == "yarn":
        key = "original_max_position_embeddings"
        original = rope.integer(key) if rope.has(key) else config.integer("max_position_embeddings")
        metadata["original_context_length"] = uint32(original)
        for key, name in _YARN_EXTRAS.items():
            if rope.has(key):
                metadata.setdefault(name, float32(rope.number(key)))
    return metadata


def rope_of(config: ModelConfig) -> ModelConfig:
    """Return the rope parameters, those of all layers and in them those of some."""
    return replace(config.section("rope"), within=" of the rope scaling")


def global_rope(config: ModelConfig) -> ModelConfig:
    """Return the rope parameters of layers with full attention, where those of windowed layers may differ."""
    rope = rope_of(config)
    if not rope.has("full_attention"):
        return rope
    return rope.with_values(**rope.section("full_attention").values)


def _local_theta(config: ModelConfig) -> float | None:
    local = rope_of(config).section("sliding_attention")
    if local.has("rope_theta"):
        return local.number("rope_theta")
    return config.number("rope_local_base_freq") if config.has("rope_local_base_freq") else None


def rotary_dimensions(config: ModelConfig, head_length: int) -> int:
    """Return how many elements of a head are rotated; the rest stay as they are."""
    factor = global_rope(config).number("partial_rotary_factor", config.number("partial_rotary_factor", 1.0))
    if not 0 <= factor <= 1:
        raise ConfigError(f"config.json: partial_rotary_factor is {factor:g}, expected a number from 0 to 1")
    return int(head_length * factor)


def rotary_metadata(config: ModelConfig) -> Metadata:
    """Return how many elements of a head are rotated, for graphs that would rotate all of them."""
    return {"rope.dimension_count": uint32(rotary_dimensions(config, head_dim(config)))}


def without_dynamic_scaling(config: ModelConfig, supported: tuple[str, ...]) -> tuple[ModelConfig, tuple[str, ...]]:
    """Return the config with plain rope in place of dynamic NTK scaling, which changes nothing up to the trained context.

    A warning says where it would begin (`_compute_dynamic_ntk_parameters` of transformers: beyond
    `original_max_position_embeddings`, or `max_position_embeddings` where that is absent). Architectures that name
    `dynamic` themselves, and scaling by `alpha`, which is always on, stay as they are.
    """
    rope = rope_of(config)
    if rope.text("rope_type") != "dynamic" or "dynamic" in supported or rope.has("alpha"):
        return config, ()
    trained = rope.integer("original_max_position_embeddings", config.integer("max_position_embeddings"))
    plain = {key: value for key, value in rope.values.items() if key != "factor"} | {"rope_type": "default"}
    warning = (
        f"config.json scales rope dynamically beyond {trained} tokens, which llama.cpp does not do; "
        f"the file gets a context of {trained}, up to which the model is the same"
    )
    return config.with_values(rope=plain, max_position_embeddings=trained), (warning,)


def check_rope_type(config: ModelConfig, supported: tuple[str, ...]) -> None:
    """Refuse a rope type that the architecture does not know; dropping one would ruin long contexts in silence.

    `local` among the supported ones allows parameters of their own for windowed layers.

    Raises ConfigError.
    """
    nested = next((key for key, value in rope_of(config).values.items() if isinstance(value, dict)), None)
    if nested is not None and "local" not in supported:
        raise ConfigError(f"config.json: rope parameters of their own for {nested!r} are not supported here")
    rope = global_rope(config)
    scaling = rope.text("rope_type")
    factor = rope.get("factor", 1)
    if scaling == "default" and factor != 1:
        raise ConfigError(
            f"config.json: the rope scaling has a factor ({float(factor) if is_number(factor) else factor!r}) but no type that would use it; "
            "add rope_type (linear, yarn, …), or remove the scaling"
        )
    if scaling not in supported:
        known = ", ".join(name for name in supported if name != "local")
        raise ConfigError(f"config.json: rope type {scaling!r} is not supported here; supported: {known}")


def rope_theta(config: ModelConfig) -> float:
    """Return the base of the rope frequencies: the config's, else the class default."""
    rope = global_rope(config)
    if isinstance(rope.get("rope_theta"), list):
        model = config.get("model_type", "this model")
        raise ConfigError(f"config.json: per-layer rope_theta is not supported for {model}")
    base = rope.number("rope_theta") if rope.has("rope_theta") else config.number("rope_theta")
    if base <= 0:
        raise ConfigError(f"config.json: rope_theta is {base:g}, expected a number above 0")
    return base


def llama3_frequency_factors(config: ModelConfig, dimensions: int) -> NDArray[numpy.float32] | None:
    """Return float32 [dimensions / 2], what llama.cpp divides each rope frequency by; None unless the type is llama3.

    Frequencies whose wavelength is short against the original context stay, long ones are divided by `factor`, and
    those between are blended (`_compute_llama3_parameters` of transformers; computed in float32 as llama.cpp's
    converter does).
    """
    rope = global_rope(config)
    if rope.text("rope_type").lower() != "llama3":
        return None
    factor, low, high, original = _llama3_parameters(rope)
    exponents = numpy.arange(0, dimensions, 2, dtype=numpy.float32) / numpy.float32(dimensions)
    powers = numpy.float64(rope_theta(config)) ** exponents.astype(numpy.float64)
    frequencies = numpy.float32(1.0) / powers.astype(numpy.float32)
    # a number over a tensor is, in torch, the number times the tensor's reciprocal, which rounds twice
    wavelengths = numpy.float32(2 * math.pi) * (numpy.float32(1.0) / frequencies)
    smooth = (numpy.float32(original) * (numpy.float32(1.0) / wavelengths) - numpy.float32(low)) / numpy.float32(
        high - low
    )
    blended = 1 / ((1 - smooth) / numpy.float32(factor) + smooth)
    factors = numpy.where(wavelengths < original / high, 1, numpy.where(wavelengths > original / low, factor, blended))
    return factors.astype(numpy.float32)


def _llama3_parameters(rope: ModelConfig) -> tuple[float, ...]:
    factor, low, high, original = (rope.number(key, default) for key, default in _LLAMA3_DEFAULTS.items())
    if not (factor > 0 and 0 < low < high):
        raise ConfigError(
            f"config.json: llama3 rope scaling needs a positive factor and low_freq_factor < high_freq_factor, "
            f"found {factor:g}, {low:g} and {high:g}"
        )
    return factor, low, high, original


def longrope_factors(config: ModelConfig, dimensions: int) -> dict[str, NDArray[numpy.float32]]:
    """Return the tensors of factors for contexts beyond and within the original one, each float32 [dimensions / 2].

    Raises ConfigError if one is missing where rope is scaled so, or not as long as half the rotated elements.
    """
    rope = global_rope(config)
    if rope.text("rope_type") not in LONGROPE and not rope.has("long_factor"):
        return {}
    return {
        f"rope_factors_{name}.weight": numpy.asarray(
            rope.number_list(f"{name}_factor", length=dimensions // 2), dtype=numpy.float32
        )
        for name in ("long", "short")
    }


def residual_metadata(config: ModelConfig) -> Metadata:
    """Return what is rotated, and whether attention and MLP stand side by side."""
    return rotary_metadata(config) | {"use_parallel_residual": boolean(config.flag("use_parallel_residual"))}
