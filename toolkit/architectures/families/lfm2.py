"""LFM 2: short convolutions, and attention in some layers."""

from dataclasses import replace

from toolkit.architectures.parts.base import Architecture, block, in_layers, other_than, rule
from toolkit.architectures.parts.experts import MIXTRAL_NAMES
from toolkit.architectures.parts.hybrids import layer_type, per_layer
from toolkit.architectures.parts.llama_block import OUTPUT, TOKEN_EMBD, gated_mlp
from toolkit.architectures.parts.transforms import squeeze
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, boolean, uint32

AROUND = (TOKEN_EMBD, OUTPUT, rule("model.embedding_norm", "token_embd_norm", "embd"))
MLP = gated_mlp("feed_forward", MIXTRAL_NAMES, "mlp_width")
NORMS = (block("operator_norm", "attn_norm", "embd"), block("ffn_norm", "ffn_norm", "embd"))
CONVOLUTION = (
    block("conv.conv", "shortconv.conv", "embd", "1", "conv_L_cache", transform=squeeze),
    block("conv.in_proj", "shortconv.in_proj", "3*embd", "embd"),
    block("conv.out_proj", "shortconv.out_proj", "embd", "embd"),
)
ATTENTION = (
    block("self_attn.q_proj", "attn_q", "q", "embd"),
    block("self_attn.k_proj", "attn_k", "kv", "embd"),
    block("self_attn.v_proj", "attn_v", "kv", "embd"),
    block("self_attn.out_proj", "attn_output", "embd", "q"),
    block("self_attn.q_layernorm", "attn_q_norm", "head"),
    block("self_attn.k_layernorm", "attn_k_norm", "head"),
)


def has_attention(config: ModelConfig, layer: int) -> bool:
    """Tell whether a layer attends."""
    return layer_type(config, layer) == "full_attention"


def hybrid_metadata(config: ModelConfig) -> Metadata:
    """Return the reach of the convolutions, and the layers that have K and V."""
    attending = (has_attention(config, layer) for layer in range(config.integer("num_hidden_layers")))
    return {
        "vocab_size": uint32(config.integer("vocab_size")),
        "shortconv.l_cache": uint32(config.integer("conv_L_cache")),
        "attention.head_count_kv": per_layer(config.integer("num_key_value_heads"), attending),
    }


def _layer_types(config: ModelConfig) -> list[str] | None:
    if not config.has("full_attn_idxs"):
        return None
    attending = config.integer_list("full_attn_idxs")
    return ["full_attention" if layer in attending else "conv" for layer in range(config.integer("num_hidden_layers"))]


def _mlp_width(config: ModelConfig) -> int:
    """Return the width that the class computes: two thirds, times a factor, rounded up to a multiple."""
    width = config.integer("block_ff_dim", config.integer("intermediate_size"))
    if not config.flag("block_auto_adjust_ff_dim"):
        return width
    multiple = config.integer("block_multiple_of")
    width = int(config.number("block_ffn_dim_multiplier") * int(2 * width / 3))
    return multiple * -(-width // multiple)


def _metadata(config: ModelConfig) -> Metadata:
    return hybrid_metadata(config) | {"feed_forward_length": uint32(config.integer("mlp_width"))}


LFM2 = Architecture(
    name="lfm2",
    hf_classes=("Lfm2ForCausalLM", "LFM2ForCausalLM"),
    compared=frozenset({"Lfm2ForCausalLM"}),
    model_types=("lfm2",),
    tensors=AROUND
    + NORMS
    + in_layers(CONVOLUTION, other_than(has_attention))
    + in_layers(ATTENTION, has_attention)
    + MLP,
    class_defaults={
        "intermediate_size": 12288,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 128000,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0,
        "conv_L_cache": 3,
        "block_auto_adjust_ff_dim": True,
        "block_multiple_of": 256,
        "block_ffn_dim_multiplier": 1.0,
        "tie_word_embeddings": True,
    },
    derived={"mlp_width": _mlp_width, "layer_types": _layer_types},
    metadata=_metadata,
    rope_types=("default",),
)

LFM2_EMBEDDING = replace(
    LFM2,
    hf_classes=("Lfm2BidirectionalModel",),
    compared=frozenset({"Lfm2BidirectionalModel"}),
    model_types=(),
    metadata=lambda config: _metadata(config) | {"attention.causal": boolean(False)},
    pools=True,
)
"""LFM 2.5 Embedding: every token sees every other."""

ARCHITECTURES = (LFM2, LFM2_EMBEDDING)
