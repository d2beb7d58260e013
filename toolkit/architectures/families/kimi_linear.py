"""Kimi Linear: delta attention with a gate for every channel in most layers, DeepSeek's latent attention in the others."""

from dataclasses import replace

from toolkit.architectures.families.deepseek_v2 import DEEPSEEK2
from toolkit.architectures.parts.base import bare_block, block, in_layers, other_than
from toolkit.architectures.parts.checks import all_of, setting, silu
from toolkit.architectures.parts.experts import MIXTRAL_NAMES, correction_bias, dense_first, experts, shared_expert
from toolkit.architectures.parts.hybrids import per_layer
from toolkit.architectures.parts.latent_attention import MLA, latent_metadata
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, DEFAULTS, NORMS
from toolkit.architectures.parts.row_sources import Reshaped
from toolkit.architectures.parts.transforms import negative_exponential
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, float32, uint32
from toolkit.gguf.rows import RowSource

_KDA = "kda_heads*kda_head"


def with_outer_axis(source: RowSource, _config: ModelConfig) -> RowSource:
    """Return a convolution [channels, 1, length] with one more axis around it, as llama.cpp wants it."""
    return Reshaped(source, (1, *source.shape))


DELTA = (
    block("self_attn.q_proj", "attn_q", _KDA, "embd"),
    block("self_attn.k_proj", "attn_k", _KDA, "embd"),
    block("self_attn.v_proj", "attn_v", _KDA, "embd"),
    block("self_attn.o_proj", "attn_output", "embd", _KDA),
    *(
        block(f"self_attn.{name}_conv1d", f"ssm_conv1d_{name}", _KDA, "1", "kda_conv", transform=with_outer_axis)
        for name in "qkv"
    ),
    block("self_attn.f_a_proj", "ssm_f_a", "kda_head", "embd"),
    block("self_attn.f_b_proj", "ssm_f_b", _KDA, "kda_head"),
    block("self_attn.g_a_proj", "ssm_g_a", "kda_head", "embd"),
    block("self_attn.g_b_proj", "ssm_g_b", _KDA, "kda_head"),
    block("self_attn.b_proj", "ssm_beta", "kda_heads", "embd"),
    bare_block("self_attn.A_log", "ssm_a", "1", "1", "kda_heads", "1", transform=negative_exponential),
    bare_block("self_attn.dt_bias", "ssm_dt.bias", _KDA),
    block("self_attn.o_norm", "ssm_norm", "kda_head"),
)
MIXTURE = (
    block("block_sparse_moe.gate", "ffn_gate_inp", "experts", "embd"),
    *correction_bias("block_sparse_moe.gate.e_score_correction_bias"),
    *experts("block_sparse_moe.experts", names=MIXTRAL_NAMES),
    *shared_expert("block_sparse_moe.shared_experts", "expert_ff*n_shared_experts"),
)


def _is_full(config: ModelConfig, layer: int) -> bool:
    return layer + 1 in config.section("linear_attn_config").integer_list("full_attn_layers")


def _metadata(config: ModelConfig) -> Metadata:
    full = (_is_full(config, layer) for layer in range(config.integer("num_hidden_layers")))
    latent = latent_metadata(config)
    # the length of a head of values is that of the config here, not that of the latent
    del latent["attention.value_length"]
    return latent | {
        "attention.head_count_kv": per_layer(1, full),
        "ssm.conv_kernel": uint32(config.integer("kda_conv")),
        "kda.head_dim": uint32(config.integer("kda_head")),
        "expert_feed_forward_length": uint32(config.integer("moe_intermediate_size")),
        "expert_shared_count": uint32(config.integer("n_shared_experts")),
        "expert_weights_scale": float32(config.number("routed_scaling_factor")),
        "leading_dense_block_count": uint32(config.integer("first_k_dense_replace", least=0)),
    }


KIMI_LINEAR = replace(
    DEEPSEEK2,
    name="kimi-linear",
    hf_classes=("KimiLinearForCausalLM", "KimiLinearModel"),
    compared=frozenset({"KimiLinearForCausalLM"}),
    model_types=("kimi_linear",),
    tensors=AROUND_THE_BLOCKS
    + NORMS
    + in_layers(MLA, _is_full)
    + in_layers(DELTA, other_than(_is_full))
    + dense_first(MIXTURE),
    class_defaults=DEFAULTS
    | {
        "first_k_dense_replace": 1,
        "n_shared_experts": 1,
    },
    aliases={
        "kda_heads": "linear_attn_config.num_heads",
        "kda_head": "linear_attn_config.head_dim",
        "kda_conv": "linear_attn_config.short_conv_kernel_size",
    },
    metadata=_metadata,
    unwritten=frozenset(),
    check=all_of(silu, setting("moe_layer_freq", 1), setting("mla_use_nope", True), setting("moe_renormalize", True)),
    rope_types=("default",),
    vocabularies=("bpe", "kimi_tiktoken"),
)

ARCHITECTURES = (KIMI_LINEAR,)
