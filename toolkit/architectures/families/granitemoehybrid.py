"""Granite 4: Mamba 2 in most layers, attention without rope in some, a shared MLP and mostly experts.

Small ones have attention only, with rope; llama.cpp runs them as Granite 3.
"""

from dataclasses import replace

from toolkit.architectures.families.granitemoe import EXPERTS, GRANITEMOE, SHARED_MLP, granitemoe_metadata
from toolkit.architectures.parts.base import Architecture, Rules, in_layers, no_variant, other_than, retargeted
from toolkit.architectures.parts.checks import all_of, setting, silu
from toolkit.architectures.parts.hybrids import UNBOUNDED_CONTEXT, layer_type, per_layer
from toolkit.architectures.parts.llama_block import (
    AROUND_THE_BLOCKS,
    ATTENTION_BIAS,
    NORMS,
    PROJECTIONS,
    with_rope_order,
)
from toolkit.architectures.parts.state_space import (
    HYBRID_ALIASES,
    HYBRID_DEFAULTS,
    gated_norm,
    heads_metadata,
    heads_of_states,
)
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, boolean, uint32


def _attends(config: ModelConfig, layer: int) -> bool:
    return layer_type(config, layer) == "attention"


def _has_experts(config: ModelConfig, _layer: int) -> bool:
    return config.integer("num_local_experts", 0, least=0) > 0


# without experts the shared MLP is the only one
_ONLY_MLP: Rules = retargeted(
    SHARED_MLP, {"ffn_gate_shexp": "ffn_gate", "ffn_up_shexp": "ffn_up", "ffn_down_shexp": "ffn_down"}
)


def _shared_metadata(config: ModelConfig) -> Metadata:
    attending = (_attends(config, layer) for layer in range(config.integer("num_hidden_layers")))
    return (
        granitemoe_metadata(config)
        | heads_metadata(config)
        | {"attention.head_count_kv": per_layer(config.integer("num_key_value_heads"), attending)}
    )


def _metadata(config: ModelConfig) -> Metadata:
    return _shared_metadata(config) | {
        "context_length": uint32(UNBOUNDED_CONTEXT),
        "rope.scaling.finetuned": boolean(False),
    }


def _metadata_with_rope(config: ModelConfig) -> Metadata:
    return _shared_metadata(config) | {"rope.scaling.finetuned": boolean(True)}


def _without_states(config: ModelConfig) -> Architecture | None:
    types = config.text_list("layer_types", [])
    if not types or any(kind != "attention" for kind in types):
        return None
    return ATTENTION_AND_EXPERTS if config.integer("num_experts_per_tok", 0, least=0) else ATTENTION_ONLY


GRANITEMOEHYBRID = replace(
    GRANITEMOE,
    name="granitehybrid",
    hf_classes=("GraniteMoeHybridForCausalLM",),
    compared=frozenset({"GraniteMoeHybridForCausalLM"}),
    model_types=("granitemoehybrid",),
    tensors=AROUND_THE_BLOCKS
    + NORMS
    + in_layers(with_rope_order(PROJECTIONS + ATTENTION_BIAS), _attends)
    + in_layers(heads_of_states("mamba") + gated_norm("mamba"), other_than(_attends))
    + in_layers(EXPERTS + SHARED_MLP, _has_experts)
    + in_layers(_ONLY_MLP, other_than(_has_experts)),
    class_defaults=GRANITEMOE.class_defaults
    | HYBRID_DEFAULTS
    | {
        "shared_intermediate_size": 1024,
        "mamba_expand": 2,
    },
    aliases=HYBRID_ALIASES,
    derived=GRANITEMOE.derived
    | {"ssm_inner": lambda config: config.integer("mamba_expand") * config.integer("hidden_size")},
    metadata=_metadata,
    check=all_of(silu, setting("position_embedding_type", "nope")),
    variant=_without_states,
)

ATTENTION_ONLY = replace(
    GRANITEMOEHYBRID,
    name="granite",
    metadata=_metadata_with_rope,
    check=all_of(silu, setting("position_embedding_type", "rope")),
    variant=no_variant,
)
ATTENTION_AND_EXPERTS = replace(ATTENTION_ONLY, name="granitemoe")

ARCHITECTURES = (GRANITEMOEHYBRID,)
