"""Mixtures of experts, in the two forms in which they are stored: a tensor for each expert, or all in one."""

from dataclasses import replace

from toolkit.architectures.parts.base import Rules, TensorRule, block, in_layers, other_than
from toolkit.architectures.parts.checks import all_of, setting
from toolkit.architectures.parts.common_metadata import gating_function
from toolkit.architectures.parts.llama_block import GATED_MLP
from toolkit.architectures.parts.transforms import compose, part, transpose
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, boolean, float32, uint32


def experts(
    module: str = "mlp.experts",
    *,
    names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"),
    ff: str = "expert_ff",
) -> Rules:
    """Return the rules of the experts' matrices; `names` are those of gate, up and down, `ff` their width."""
    gate, up, down = names
    return (
        block(f"{module}.{{expert}}.{gate}", "ffn_gate_exps", ff, "embd"),
        block(f"{module}.{{expert}}.{up}", "ffn_up_exps", ff, "embd"),
        block(f"{module}.{{expert}}.{down}", "ffn_down_exps", "embd", ff),
        *stacked_experts(module, ff),
    )


def stacked_experts(module: str, ff: str) -> Rules:
    """Return the rules of experts that transformers 5 stores: gate and up in one tensor, matrices as in a linear layer."""
    prefix = f"model.layers.{{layer}}.{module}"
    gate_up = TensorRule(f"{prefix}.gate_up_proj", "", ("experts", f"2*{ff}", "embd"))
    return (
        replace(gate_up, target="blk.{layer}.ffn_gate_exps.weight", transform=part(0, 2)),
        replace(gate_up, target="blk.{layer}.ffn_up_exps.weight", transform=part(1, 2)),
        TensorRule(f"{prefix}.down_proj", "blk.{layer}.ffn_down_exps.weight", ("experts", "embd", ff)),
    )


def stacked_and_transposed(module: str, ff: str) -> Rules:
    """Return the rules of experts whose stacked matrices have their inputs first."""
    prefix = f"model.layers.{{layer}}.{module}"
    gate_up = TensorRule(f"{prefix}.gate_up_proj", "", ("experts", "embd", f"2*{ff}"))
    down = TensorRule(f"{prefix}.down_proj", "blk.{layer}.ffn_down_exps.weight", ("experts", ff, "embd"), transpose)
    return (
        replace(gate_up, target="blk.{layer}.ffn_gate_exps.weight", transform=compose(transpose, part(0, 2))),
        replace(gate_up, target="blk.{layer}.ffn_up_exps.weight", transform=compose(transpose, part(1, 2))),
        down,
    )


SIGMOID = gating_function("sigmoid")
ROUTER = (block("mlp.gate", "ffn_gate_inp", "experts", "embd"),)
MIXTRAL_NAMES = ("w1", "w3", "w2")
MIXTRAL_MIXTURE = (
    block("block_sparse_moe.gate", "ffn_gate_inp", "experts", "embd"),
    *experts("block_sparse_moe.experts", names=MIXTRAL_NAMES, ff="ff"),
)


def shared_expert(module: str, ff: str) -> Rules:
    """Return the rules of an expert that every token passes."""
    return (
        block(f"{module}.gate_proj", "ffn_gate_shexp", ff, "embd"),
        block(f"{module}.up_proj", "ffn_up_shexp", ff, "embd"),
        block(f"{module}.down_proj", "ffn_down_shexp", "embd", ff),
    )


def correction_bias(source: str) -> Rules:
    """Return the rule of the bias that is added to router scores for the choice of experts only."""
    return (TensorRule(f"model.layers.{{layer}}.{source}", "blk.{layer}.exp_probs_b.bias", ("experts",)),)


SHARED_EXPERTS = shared_expert("mlp.shared_experts", "expert_ff*n_shared_experts")
MIXTURE = ROUTER + experts() + SHARED_EXPERTS
"""DeepSeek's kind: experts by name, and those that every token passes in one matrix each for gate, up and down."""
CORRECTED_MIXTURE = ROUTER + correction_bias("mlp.gate.e_score_correction_bias") + experts() + SHARED_EXPERTS


def _leading_dense(config: ModelConfig, layer: int) -> bool:
    return layer < config.integer("first_k_dense_replace", 0, least=0)


def dense_first(mixture: Rules) -> Rules:
    """Return the rules of an ordinary MLP in the first blocks, as many as the config says, and of a mixture in the others."""
    return in_layers(GATED_MLP, _leading_dense) + in_layers(mixture, other_than(_leading_dense))


def deepseek_router_metadata(config: ModelConfig) -> Metadata:
    """Return the keys of mixtures as DeepSeek's configs describe them."""
    return {
        "leading_dense_block_count": uint32(config.integer("first_k_dense_replace", least=0)),
        "expert_feed_forward_length": uint32(config.integer("moe_intermediate_size")),
        "expert_shared_count": uint32(config.integer("n_shared_experts")),
        "expert_weights_scale": float32(config.number("routed_scaling_factor")),
        "expert_weights_norm": boolean(config.flag("norm_topk_prob")),
    }


GATED_SHARED_EXPERT = (
    *shared_expert("mlp.shared_expert", "shared_expert_intermediate_size"),
    block("mlp.shared_expert_gate", "ffn_gate_inp_shexp", "1", "embd"),
)
"""Qwen's kind: an expert that every token passes, behind a gate of its own."""
EVERY_LAYER_HAS_EXPERTS = all_of(setting("decoder_sparse_step", 1), setting("mlp_only_layers", []))


def expert_widths(config: ModelConfig) -> Metadata:
    """Return the widths of the experts, and of one that every token passes."""
    metadata: Metadata = {"expert_feed_forward_length": uint32(config.integer("moe_intermediate_size"))}
    if config.has("shared_expert_intermediate_size"):
        metadata["expert_shared_feed_forward_length"] = uint32(config.integer("shared_expert_intermediate_size"))
    return metadata
