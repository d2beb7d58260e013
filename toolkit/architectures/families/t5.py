"""T5, mT5, UMT5: an encoder and a decoder, positions as a bias on attention; also the encoder alone."""

from dataclasses import replace
from functools import partial

from toolkit.architectures.parts.base import (
    Architecture,
    Naming,
    Rules,
    TensorRule,
    hidden_layers,
    in_layers,
    rule,
    same_as,
)
from toolkit.architectures.parts.checks import all_of, setting
from toolkit.architectures.parts.llama_block import OUTPUT
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, float32, uint32

CONTEXT_LENGTH = 512
"""where the config names none: positions are relative, and T5 was trained with this many"""
HEADS = "num_attention_heads*d_kv"


def _block(side: str, short: str, module: str, target: str, *shape: str) -> TensorRule:
    source = f"model.{side}.block.{{layer}}.layer.{module}.weight"
    return TensorRule(source, f"{short}.blk.{{layer}}.{target}.weight", shape)


def _attention(part: partial[TensorRule], module: str, target: str) -> Rules:
    names = (("q", HEADS, "embd"), ("k", HEADS, "embd"), ("v", HEADS, "embd"), ("o", "embd", HEADS))
    return tuple(part(f"{module}.{name}", f"{target}_{name}", *shape) for name, *shape in names)


def _mlp(part: partial[TensorRule], number: int) -> Rules:
    module = f"{number}.DenseReluDense"
    gate = part(f"{module}.wi_0", "ffn_gate", "ff", "embd")
    return (
        replace(gate, required=_is_gated),
        part(f"{module}.wi_1", "ffn_up", "ff", "embd"),
        part(f"{module}.wi", "ffn_up", "ff", "embd"),
        part(f"{module}.wo", "ffn_down", "embd", "ff"),
        part(f"{number}.layer_norm", "ffn_norm", "embd"),
    )


def _is_gated(config: ModelConfig) -> bool:
    return config.text("feed_forward_proj").startswith("gated-")


def _positions(part: partial[TensorRule]) -> Rules:
    """Return the rules of the bias that the first block has and the others share, or (UMT5) each its own."""
    bias = part(
        "0.SelfAttention.relative_attention_bias", "attn_rel_b", "relative_attention_num_buckets", "num_attention_heads"
    )
    return (
        *in_layers((bias,), lambda _config, layer: layer == 0),
        *in_layers((replace(bias, required=_own_positions),), lambda _config, layer: layer > 0),
    )


def _own_positions(config: ModelConfig) -> bool:
    return config.text("model_type", "") == "umt5"


def _side(side: str, short: str, count_key: str) -> Rules:
    part = partial(_block, side, short)
    rules = (
        *_attention(part, "0.SelfAttention", "attn"),
        part("0.layer_norm", "attn_norm", "embd"),
        *_positions(part),
    )
    if side == "decoder":
        rules += (*_attention(part, "1.EncDecAttention", "cross_attn"), part("1.layer_norm", "cross_attn_norm", "embd"))
    rules += _mlp(part, 2 if side == "decoder" else 1)
    # the two sides may have different numbers of blocks
    return (
        rule(f"model.{side}.final_layer_norm", f"{short}.output_norm", "embd"),
        *in_layers(rules, lambda config, layer: layer < config.integer(count_key)),
    )


def _metadata(config: ModelConfig) -> Metadata:
    return _encoder_metadata(config) | {
        "decoder_block_count": uint32(config.integer("num_decoder_layers")),
        "decoder_start_token_id": uint32(config.integer("decoder_start_token_id", least=0)),
    }


def _encoder_metadata(config: ModelConfig) -> Metadata:
    head, epsilon = uint32(config.integer("d_kv")), float32(config.number("layer_norm_eps"))
    return {
        "block_count": uint32(config.integer("num_hidden_layers")),
        "context_length": uint32(config.integer("n_positions", CONTEXT_LENGTH, least=0)),
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_rms_epsilon": epsilon,
        "attention.relative_buckets_count": uint32(config.integer("relative_attention_num_buckets")),
    }


def _blocks_of_the_longer_side(config: ModelConfig) -> int:
    return max(config.integer("num_hidden_layers"), config.integer("num_decoder_layers"))


SHARED = rule("model.shared", "token_embd", "vocab", "embd")
ENCODER = _side("encoder", "enc", "num_hidden_layers")
DECODER = _side("decoder", "dec", "num_decoder_layers")
# The decoder's output may be missing whatever the config says: llama.cpp uses the embedding then.
DECODER_OUTPUT = replace(OUTPUT, required=False)

T5 = Architecture(
    name="t5",
    hf_classes=(
        "T5ForConditionalGeneration",
        "T5WithLMHeadModel",
        "MT5ForConditionalGeneration",
        "UMT5ForConditionalGeneration",
        "UMT5Model",
    ),
    compared=frozenset({"T5ForConditionalGeneration"}),
    model_types=("t5", "mt5", "umt5"),
    tensors=(SHARED, DECODER_OUTPUT, *ENCODER, *DECODER),
    class_defaults={
        "decoder_start_token_id": 0,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "layer_norm_eps": 1e-6,
        "feed_forward_proj": "relu",
        "tie_word_embeddings": True,
    },
    aliases={"intermediate_size": "d_ff", "num_attention_heads": "num_heads"},
    derived={"num_decoder_layers": same_as("num_hidden_layers")},
    metadata=_metadata,
    unwritten=frozenset({"rope", "attention.head_count_kv", "context_length"}),
    norm="layer_norm_eps",
    check=all_of(setting("feed_forward_proj", "relu", "gated-gelu"), setting("relative_attention_max_distance", 128)),
    block_count=_blocks_of_the_longer_side,
    rope_types=("default",),
    vocabularies=("t5", "sentencepiece"),
    naming=Naming(embedding="shared", blocks=r"(?:encoder|decoder)\.block"),
    dropped={r"model\.(encoder|decoder)\.embed_tokens\.weight": "copies of the shared embedding"},
)

T5_ENCODER = replace(
    T5,
    name="t5encoder",
    hf_classes=("T5EncoderModel",),
    compared=frozenset({"T5EncoderModel"}),
    model_types=(),
    tensors=(SHARED, *ENCODER),
    metadata=_encoder_metadata,
    block_count=hidden_layers,
)

ARCHITECTURES = (T5, T5_ENCODER)
