"""Qwen 3 Next: gated delta net with fused projections, experts in every layer."""

from dataclasses import replace

from toolkit.architectures.families.qwen3_moe import QWEN3_MOE
from toolkit.architectures.parts.base import Naming, block, in_layers, other_than
from toolkit.architectures.parts.experts import GATED_SHARED_EXPERT, ROUTER, expert_widths, experts
from toolkit.architectures.parts.linear_attention import (
    AROUND,
    BLOCK_NORMS,
    GATED_ATTENTION,
    KEYS,
    LINEAR_DEFAULTS,
    LINEAR_DERIVED,
    PREDICTION,
    STATES,
    VALUES,
    head_as_block,
    is_linear,
    linear_heads,
    linear_metadata,
)
from toolkit.architectures.parts.prediction import blocks, predicts
from toolkit.architectures.parts.row_sources import Indices
from toolkit.architectures.parts.transforms import regrouped, ungrouped
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.rows import RowSource

_FUSED = f"2*{KEYS}+2*{VALUES}"


def _order(config: ModelConfig) -> tuple[Indices, int]:
    """Return the order that takes Q, K, V and the gate apart, which lie together for every key head; and where the gate begins."""
    (key_heads, value_heads), key = linear_heads(config), config.integer("linear_key_head_dim")
    values = value_heads * config.integer("linear_value_head_dim")
    order = ungrouped(key_heads, (key, key, values // key_heads, values // key_heads))
    return order, len(order) - values


def qkv(source: RowSource, config: ModelConfig) -> RowSource:
    """Return the rows of Q, K and V."""
    order, gate = _order(config)
    return regrouped(source, order[:gate])


def gate(source: RowSource, config: ModelConfig) -> RowSource:
    """Return the rows of the gate."""
    order, first = _order(config)
    return regrouped(source, order[first:])


FUSED_STATES = (
    *STATES,
    block("linear_attn.in_proj_qkvz", "attn_qkv", _FUSED, "embd", transform=qkv),
    block("linear_attn.in_proj_qkvz", "attn_gate", _FUSED, "embd", transform=gate),
    block("linear_attn.in_proj_ba", "ssm_ba", "2*linear_num_value_heads", "embd"),
)

QWEN3_NEXT = replace(
    QWEN3_MOE,
    name="qwen3next",
    hf_classes=("Qwen3NextForCausalLM",),
    compared=frozenset({"Qwen3NextForCausalLM"}),
    model_types=("qwen3_next",),
    tensors=AROUND
    + BLOCK_NORMS
    + in_layers(GATED_ATTENTION, other_than(is_linear))
    + in_layers(FUSED_STATES, is_linear)
    + ROUTER
    + experts()
    + GATED_SHARED_EXPERT
    + in_layers(PREDICTION, predicts),
    class_defaults=QWEN3_MOE.class_defaults
    | LINEAR_DEFAULTS
    | {
        "intermediate_size": 5632,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "num_local_experts": 512,
        "num_experts_per_tok": 10,
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
    },
    derived=QWEN3_MOE.derived | LINEAR_DERIVED,
    metadata=lambda config: expert_widths(config) | linear_metadata(config),
    block_count=blocks,
    naming=Naming(multi_token_prediction=True),
    renamed=head_as_block,
)

ARCHITECTURES = (QWEN3_NEXT,)
