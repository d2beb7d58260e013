"""Granite with experts, stored in one tensor for gate and up and one for down; some have one that every token passes."""

from dataclasses import replace

from toolkit.architectures.families.granite import GRANITE
from toolkit.architectures.parts.base import Rules, block
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, ATTENTION, ATTENTION_BIAS, with_rope_order
from toolkit.architectures.parts.transforms import part
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32

EXPERTS = (
    block("block_sparse_moe.router.layer", "ffn_gate_inp", "experts", "embd"),
    block("block_sparse_moe.input_linear", "ffn_gate_exps", "experts", "2*ff", "embd", transform=part(0, 2)),
    block("block_sparse_moe.input_linear", "ffn_up_exps", "experts", "2*ff", "embd", transform=part(1, 2)),
    block("block_sparse_moe.output_linear", "ffn_down_exps", "experts", "embd", "ff"),
)
_SHARED = "shared_intermediate_size"
SHARED_MLP: Rules = tuple(
    replace(tensor, required=_SHARED)
    for tensor in (
        block("shared_mlp.input_linear", "ffn_gate_shexp", f"2*{_SHARED}", "embd", transform=part(0, 2)),
        block("shared_mlp.input_linear", "ffn_up_shexp", f"2*{_SHARED}", "embd", transform=part(1, 2)),
        block("shared_mlp.output_linear", "ffn_down_shexp", "embd", _SHARED),
    )
)


def granitemoe_metadata(config: ModelConfig) -> Metadata:
    """Return Granite's keys, and the width of the shared expert if there is one."""
    shared = config.integer(_SHARED, 0, least=0)
    metadata = GRANITE.metadata(config)
    return metadata | {"expert_shared_feed_forward_length": uint32(shared)} if shared else metadata


GRANITEMOE = replace(
    GRANITE,
    name="granitemoe",
    hf_classes=("GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"),
    compared=frozenset({"GraniteMoeForCausalLM"}),
    model_types=("granitemoe", "granitemoeshared"),
    tensors=AROUND_THE_BLOCKS + with_rope_order(ATTENTION + ATTENTION_BIAS) + EXPERTS + SHARED_MLP,
    class_defaults=GRANITE.class_defaults | {"num_local_experts": 8, "num_experts_per_tok": 2},
    metadata=granitemoe_metadata,
)

ARCHITECTURES = (GRANITEMOE,)
