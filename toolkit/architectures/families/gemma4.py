"""Gemma 4: global layers with heads of another size, of which rope turns a part; experts beside the MLP (26B).

E2B and E4B have embeddings of their own for every layer; their last layers use the keys of others, and may be wider.
"""

from dataclasses import replace

import numpy
from numpy.typing import NDArray

from toolkit.architectures.families.gemma3 import GEMMA3
from toolkit.architectures.parts.base import (
    bare_block,
    block,
    in_layers,
    needed_in_layers,
    other_than,
    resized,
    same_as,
)
from toolkit.architectures.parts.checks import all_of, gelu, tied
from toolkit.architectures.parts.gemma_layers import PER_LAYER_EMBEDDING, PER_LAYER_INPUT, SANDWICH_NORMS, has_keys
from toolkit.architectures.parts.hybrids import layer_type
from toolkit.architectures.parts.llama_block import (
    ATTN_NORM,
    GATED_MLP,
    K_NORM,
    OUTPUT_NORM,
    Q_NORM,
    TOKEN_EMBD,
    K,
    O,
    Q,
    V,
)
from toolkit.architectures.parts.rope import global_rope
from toolkit.architectures.parts.windows import window_metadata
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, ValueType, array, float32, uint32

_GLOBAL_SIZES = {
    "q": "num_attention_heads*global_head_dim",
    "kv": "num_global_key_value_heads*global_head_dim",
    "head": "global_head_dim",
}
_WIDE = {"ff": "2*ff"}
_NEVER_TURNED = 1e30
"""what rope frequencies are divided by where they are to be 0"""


def _is_windowed(config: ModelConfig, layer: int) -> bool:
    return layer_type(config, layer) == "sliding_attention"


def _is_wide(config: ModelConfig, layer: int) -> bool:
    return config.flag("use_double_wide_mlp", False) and not has_keys(config, layer)


def _has_values(config: ModelConfig, layer: int) -> bool:
    """Tell whether a layer has values that are not its keys."""
    return has_keys(config, layer) and (_is_windowed(config, layer) or not config.flag("attention_k_eq_v", False))


ATTENTION = (Q, O, Q_NORM, *needed_in_layers((K, K_NORM), has_keys), *needed_in_layers((V,), _has_values))
PER_LAYER = tuple(
    replace(tensor, required="hidden_size_per_layer_input") for tensor in PER_LAYER_EMBEDDING + PER_LAYER_INPUT
)
MIXTURE = tuple(
    replace(tensor, required="enable_moe_block")
    for tensor in (
        block("router.proj", "ffn_gate_inp", "experts", "embd"),
        bare_block("router.scale", "ffn_gate_inp.scale", "embd"),
        bare_block("router.per_expert_scale", "ffn_down_exps.scale", "experts"),
        bare_block("experts.gate_up_proj", "ffn_gate_up_exps.weight", "experts", "2*expert_ff", "embd"),
        bare_block("experts.down_proj", "ffn_down_exps.weight", "experts", "embd", "expert_ff"),
        block("post_feedforward_layernorm_1", "post_ffw_norm_1", "embd"),
        block("pre_feedforward_layernorm_2", "pre_ffw_norm_2", "embd"),
        block("post_feedforward_layernorm_2", "post_ffw_norm_2", "embd"),
    )
)


def _metadata(config: ModelConfig) -> Metadata:
    metadata: Metadata = window_metadata(config) | {
        "final_logit_softcapping": float32(config.number("final_logit_softcapping")),
        "embedding_length_per_layer_input": uint32(config.integer("hidden_size_per_layer_input", least=0)),
        "attention.shared_kv_layers": uint32(config.integer("num_kv_shared_layers", least=0)),
    }
    for suffix, key in (("", "global_head_dim"), ("_swa", "head_dim")):
        length = uint32(config.integer(key))
        metadata[f"attention.key_length{suffix}"] = length
        metadata[f"attention.value_length{suffix}"] = length
        metadata[f"rope.dimension_count{suffix}"] = length
    if config.has("moe_intermediate_size"):
        metadata["expert_feed_forward_length"] = uint32(config.integer("moe_intermediate_size"))
    return metadata | _per_layer_metadata(config)


def _per_layer_metadata(config: ModelConfig) -> Metadata:
    """Return what differs between layers, where it does."""
    layers = range(config.integer("num_hidden_layers"))
    metadata: Metadata = {}
    if "num_global_key_value_heads" in config.values:
        heads = (config.integer("num_global_key_value_heads"), config.integer("num_key_value_heads"))
        metadata["attention.head_count_kv"] = array(
            ValueType.INT32, (heads[_is_windowed(config, layer)] for layer in layers)
        )
    if config.flag("use_double_wide_mlp", False):
        width = config.integer("intermediate_size")
        metadata["feed_forward_length"] = array(
            ValueType.INT32, (width * (1 + _is_wide(config, layer)) for layer in layers)
        )
    return metadata


def rope_factors(config: ModelConfig) -> dict[str, NDArray[numpy.float32]]:
    """Return the rope_freqs tensor of proportional rope: the first frequencies of a global head as they are, the rest 0."""
    large = config.integer("global_head_dim")
    turned = int(large * global_rope(config).number("partial_rotary_factor", 1.0) / 2)
    factors = numpy.full(large // 2, _NEVER_TURNED, dtype=numpy.float32)
    factors[:turned] = 1.0
    return {"rope_freqs.weight": factors}


GEMMA4 = replace(
    GEMMA3,
    name="gemma4",
    hf_classes=("Gemma4ForCausalLM", "Gemma4ForConditionalGeneration"),
    compared=frozenset({"Gemma4ForCausalLM", "Gemma4ForConditionalGeneration"}),
    model_types=("gemma4_text", "gemma4"),
    tensors=(
        TOKEN_EMBD,
        OUTPUT_NORM,
        ATTN_NORM,
        *SANDWICH_NORMS,
        bare_block("layer_scalar", "layer_output_scale.weight", "1"),
        *in_layers(ATTENTION, _is_windowed),
        *in_layers(resized(ATTENTION, _GLOBAL_SIZES), other_than(_is_windowed)),
        *in_layers(GATED_MLP, other_than(_is_wide)),
        *in_layers(resized(GATED_MLP, _WIDE), _is_wide),
        *MIXTURE,
        *PER_LAYER,
    ),
    class_defaults=GEMMA3.class_defaults
    | {
        "hidden_size_per_layer_input": 0,
        "num_kv_shared_layers": 0,
        "enable_moe_block": False,
    },
    derived={
        "num_global_key_value_heads": same_as("num_key_value_heads"),
        "vocab_size_per_layer_input": same_as("vocab_size"),
    },
    metadata=_metadata,
    generated_tensors=rope_factors,
    check=all_of(gelu, tied),
    rope_types=("default", "proportional", "local"),
    vocabularies=("gemma4",),
)

GEMMA4_UNIFIED = replace(
    GEMMA4,
    hf_classes=("Gemma4UnifiedForConditionalGeneration",),
    compared=frozenset({"Gemma4UnifiedForConditionalGeneration"}),
    model_types=("gemma4_unified", "gemma4_unified_text"),
)

ARCHITECTURES = (GEMMA4, GEMMA4_UNIFIED)
