"""Gemma 4, dense: global layers with heads of another size whose values are their keys, rope on a part of them."""

from dataclasses import replace

import numpy
from numpy.typing import NDArray

from toolkit.architectures.base import Rules, bare_block, in_layers, without
from toolkit.architectures.checks import all_of, gelu, setting, tied
from toolkit.architectures.gemma2 import SANDWICH_NORMS
from toolkit.architectures.gemma3 import GEMMA3
from toolkit.architectures.hybrids import layer_type
from toolkit.architectures.llama import EMBEDDING, GATED_MLP, NORMS, OUTPUT_NORM, PROJECTIONS
from toolkit.architectures.qwen3 import HEAD_NORMS
from toolkit.architectures.rope import global_rope
from toolkit.architectures.windows import window_metadata
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, ValueType, array, float32, uint32

_SIZES = {
    "q": "num_attention_heads*global_head_dim",
    "kv": "num_global_key_value_heads*global_head_dim",
    "head": "global_head_dim",
}
_NEVER_TURNED = 1e30
"""what rope frequencies are divided by where they are to be 0"""


def _global_sizes(rules: Rules) -> Rules:
    return tuple(replace(one, shape=tuple(_SIZES.get(name, name) for name in one.shape)) for one in rules)


def _is_windowed(config: ModelConfig, layer: int) -> bool:
    return layer_type(config, layer) == "sliding_attention"


def _is_global(config: ModelConfig, layer: int) -> bool:
    return not _is_windowed(config, layer)


def _keeps_values(config: ModelConfig) -> bool:
    return not config.get("attention_k_eq_v", False)


WINDOWED = PROJECTIONS + HEAD_NORMS
GLOBAL = (
    *_global_sizes(without(WINDOWED, "v_proj")),
    *(replace(one, required=_keeps_values) for one in _global_sizes(PROJECTIONS[2:3])),
)


def _metadata(config: ModelConfig) -> Metadata:
    local, large = config.integer("head_dim"), config.integer("global_head_dim")
    kv_heads = (config.integer("num_global_key_value_heads"), config.integer("num_key_value_heads"))
    layers = range(config.integer("num_hidden_layers"))
    metadata: Metadata = window_metadata(config) | {
        "final_logit_softcapping": float32(config.number("final_logit_softcapping")),
        "embedding_length_per_layer_input": uint32(0),
        "attention.shared_kv_layers": uint32(0),
        "attention.head_count_kv": array(ValueType.INT32, (kv_heads[_is_windowed(config, layer)] for layer in layers)),
    }
    for suffix, length in (("", large), ("_swa", local)):
        metadata[f"attention.key_length{suffix}"] = uint32(length)
        metadata[f"attention.value_length{suffix}"] = uint32(length)
        metadata[f"rope.dimension_count{suffix}"] = uint32(length)
    return metadata


def rope_factors(config: ModelConfig) -> dict[str, NDArray[numpy.float32]]:
    """Return the rope_freqs tensor of proportional rope: the first frequencies of a global head as they are, the rest 0."""
    large = config.integer("global_head_dim")
    turned = int(large * global_rope(config).get("partial_rotary_factor", 1.0) / 2)
    factors = numpy.full(large // 2, _NEVER_TURNED, dtype=numpy.float32)
    factors[:turned] = 1.0
    return {"rope_freqs.weight": factors}


GEMMA4 = replace(
    GEMMA3,
    name="gemma4",
    hf_classes=("Gemma4ForCausalLM", "Gemma4ForConditionalGeneration"),
    model_types=("gemma4_text", "gemma4"),
    tensors=EMBEDDING
    + OUTPUT_NORM
    + NORMS[:1]
    + SANDWICH_NORMS
    + (bare_block("layer_scalar", "layer_output_scale.weight", "1"),)
    + in_layers(WINDOWED, _is_windowed)
    + in_layers(GLOBAL, _is_global)
    + GATED_MLP,
    defaults=GEMMA3.defaults | {"num_global_key_value_heads": lambda config: config["num_key_value_heads"]},
    metadata=_metadata,
    generated_tensors=rope_factors,
    check=all_of(
        gelu,
        tied,
        setting("enable_moe_block", False),
        setting("use_double_wide_mlp", False),
        setting("hidden_size_per_layer_input", 0),
        setting("num_kv_shared_layers", 0),
    ),
    rope_types=("default", "proportional", "local"),
    vocabularies=("gemma4",),
)

ARCHITECTURES = (GEMMA4,)
