"""Nemotron H: one sub-layer a block, Mamba 2, attention or an MLP with squared ReLU, in a pattern of letters.

Nemotron 3 has experts in place of the MLPs.
"""

from dataclasses import replace

from toolkit.architectures.parts.base import Architecture, LayerChoice, Naming, block, in_layers, no_variant
from toolkit.architectures.parts.checks import all_of, setting
from toolkit.architectures.parts.dimensions import head_dim
from toolkit.architectures.parts.experts import correction_bias
from toolkit.architectures.parts.hybrids import UNBOUNDED_CONTEXT, per_layer
from toolkit.architectures.parts.llama_block import DERIVED, with_rope_order
from toolkit.architectures.parts.state_space import AROUND_THE_STATES, gated_norm, heads_metadata, heads_of_states
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError
from toolkit.gguf.format import Metadata, boolean, float32, uint32

STATES, ATTENTION, MLP, EXPERTS = "M", "*", "-", "E"
_LETTERS = {
    "mamba": STATES,
    "linear_attention": STATES,
    "attention": ATTENTION,
    "full_attention": ATTENTION,
    "mlp": MLP,
    "moe": EXPERTS,
}
"""how newer configs spell the pattern, in `layers_block_type`"""
PROJECTIONS = (
    block("mixer.q_proj", "attn_q", "q", "embd"),
    block("mixer.k_proj", "attn_k", "kv", "embd"),
    block("mixer.v_proj", "attn_v", "kv", "embd"),
    block("mixer.o_proj", "attn_output", "embd", "q"),
)
MATRICES = (block("mixer.up_proj", "ffn_up", "ff", "embd"), block("mixer.down_proj", "ffn_down", "embd", "ff"))
_SHARED = "moe_shared_expert_intermediate_size"
MIXTURE = (
    block("mixer.gate", "ffn_gate_inp", "experts", "embd"),
    *correction_bias("mixer.gate.e_score_correction_bias"),
    block("mixer.experts.{expert}.up_proj", "ffn_up_exps", "expert_ff", "embd"),
    block("mixer.experts.{expert}.down_proj", "ffn_down_exps", "embd", "expert_ff"),
    block("mixer.shared_experts.up_proj", "ffn_up_shexp", _SHARED, "embd"),
    block("mixer.shared_experts.down_proj", "ffn_down_shexp", "embd", _SHARED),
)


def _letters(config: ModelConfig) -> str:
    """Return the pattern.

    Raises ConfigError if it is not as long as there are layers.
    """
    pattern = config.text("hybrid_override_pattern")
    if len(pattern) != config.integer("num_hidden_layers"):
        raise ConfigError(
            f"config.json: hybrid_override_pattern names {len(pattern)} layers, but there are "
            f"{config.integer('num_hidden_layers')}"
        )
    return pattern


def _is(letter: str) -> LayerChoice:
    return lambda config, layer: _letters(config)[layer] == letter


COMMON = (
    *AROUND_THE_STATES,
    block("norm", "attn_norm", "embd"),
    *in_layers(heads_of_states("mixer") + gated_norm("mixer"), _is(STATES)),
    *in_layers(with_rope_order(PROJECTIONS), _is(ATTENTION)),
)


def _pattern(config: ModelConfig) -> str | None:
    if not config.has("layers_block_type"):
        return None
    return "".join(_LETTERS.get(kind, "?") for kind in config.text_list("layers_block_type"))


def _metadata(config: ModelConfig) -> Metadata:
    pattern = _letters(config)
    head = uint32(head_dim(config))
    return heads_metadata(config) | {
        "vocab_size": uint32(config.integer("vocab_size")),
        "context_length": uint32(UNBOUNDED_CONTEXT),
        "feed_forward_length": per_layer(config.integer("ff"), (kind in (MLP, EXPERTS) for kind in pattern)),
        "attention.head_count_kv": per_layer(
            config.integer("num_key_value_heads"), (kind == ATTENTION for kind in pattern)
        ),
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_epsilon": float32(config.number("rms_norm_eps")),
        "rope.dimension_count": head,
        "rope.scaling.finetuned": boolean(False),
    }


def _mixture_metadata(config: ModelConfig) -> Metadata:
    return _metadata(config) | {
        "expert_feed_forward_length": uint32(config.integer("moe_intermediate_size")),
        "expert_shared_feed_forward_length": uint32(config.integer(_SHARED)),
        "expert_shared_count": uint32(config.integer("n_shared_experts")),
        "expert_weights_norm": boolean(config.flag("norm_topk_prob")),
        "expert_weights_scale": float32(config.number("routed_scaling_factor")),
    }


def _with_experts(config: ModelConfig) -> Architecture | None:
    return None if not config.has("num_experts_per_tok") else NEMOTRON_H_MOE


NEMOTRON_H = Architecture(
    name="nemotron_h",
    hf_classes=("NemotronHForCausalLM",),
    compared=frozenset({"NemotronHForCausalLM"}),
    model_types=("nemotron_h",),
    tensors=COMMON + in_layers(MATRICES, _is(MLP)),
    class_defaults={
        "max_position_embeddings": UNBOUNDED_CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    aliases={
        "ff": "intermediate_size",
        "head_dim": "attention_head_dim",
        "ssm_rank": "mamba_num_heads",
        "ssm_groups": "n_groups",
        "ssm_state": "ssm_state_size",
        "ssm_conv": "conv_kernel",
    },
    derived=DERIVED
    | {
        "hybrid_override_pattern": _pattern,
        "num_hidden_layers": lambda config: len(config.text("hybrid_override_pattern")),
        "ssm_inner": lambda config: config.integer("mamba_num_heads") * config.integer("mamba_head_dim"),
    },
    metadata=_metadata,
    check=all_of(setting("mlp_hidden_act", "relu2"), setting("mamba_hidden_act", "silu")),
    rope_types=("default",),
    naming=Naming(embedding="embeddings"),
    variant=_with_experts,
)

NEMOTRON_H_MOE = replace(
    NEMOTRON_H,
    name="nemotron_h_moe",
    tensors=COMMON + in_layers(MIXTURE, _is(EXPERTS)),
    aliases={**NEMOTRON_H.aliases, "ff": "moe_intermediate_size"},
    metadata=_mixture_metadata,
    check=all_of(NEMOTRON_H.check, setting("moe_latent_size")),
    variant=no_variant,
)

ARCHITECTURES = (NEMOTRON_H,)
