"""SmallThinker: experts in every layer, chosen before attention; the large one has windows and rope on three of four layers."""

from dataclasses import replace

from toolkit.architectures.families.qwen2 import QWEN2
from toolkit.architectures.parts.base import block
from toolkit.architectures.parts.common_metadata import gating_function
from toolkit.architectures.parts.experts import experts
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, ATTENTION, DEFAULTS
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError
from toolkit.gguf.format import Metadata, uint32

WINDOW = 4096
"""the only window that llama.cpp runs, whatever the file says"""
MIXTURE = (
    block("block_sparse_moe.primary_router", "ffn_gate_inp", "experts", "embd"),
    *experts("block_sparse_moe.experts", names=("gate", "up", "down"), ff="ff"),
)


def _has_windows(config: ModelConfig) -> bool:
    return any(config.flag_list("sliding_window_layout", []))


def _metadata(config: ModelConfig) -> Metadata:
    softmax = config.flag("moe_primary_router_apply_softmax", False)
    metadata: Metadata = {
        "expert_used_count": uint32(config.integer("num_experts_per_tok")),
        "expert_feed_forward_length": uint32(config.integer("intermediate_size")),
        "expert_gating_func": gating_function("softmax" if softmax else "sigmoid"),
    }
    return metadata | ({"attention.sliding_window": uint32(WINDOW)} if _has_windows(config) else {})


def _check_layouts(config: ModelConfig) -> None:
    n_layer = config.integer("num_hidden_layers")
    windows, rope = config.get("sliding_window_layout", []), config.get("rope_layout", [])
    built_in = [int(layer % 4 != 0) for layer in range(n_layer)]
    if _has_windows(config):
        fits = windows == rope == built_in and config.get("sliding_window_size") == WINDOW
    else:
        fits = not rope or rope == [1] * n_layer
    if not fits:
        raise ConfigError(
            "config.json: llama.cpp runs this architecture with rope everywhere and no windows, or with both, of "
            f"{WINDOW} tokens, on all layers but every fourth, counted from the first"
        )


SMALLTHINKER = replace(
    QWEN2,
    name="smallthinker",
    hf_classes=("SmallThinkerForCausalLM",),
    compared=frozenset({"SmallThinkerForCausalLM"}),
    model_types=("smallthinker",),
    tensors=AROUND_THE_BLOCKS + ATTENTION + MIXTURE,
    class_defaults=DEFAULTS,
    aliases={
        "intermediate_size": "moe_ffn_hidden_size",
        "num_local_experts": "moe_num_primary_experts",
        "num_experts_per_tok": "moe_num_active_primary_experts",
    },
    metadata=_metadata,
    check=_check_layouts,
    pools=False,
)

ARCHITECTURES = (SMALLTHINKER,)
