"""Ling lite (Bailing MoE): fused QKV, experts and shared ones, rope order as Llama's."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import Naming, block, no_generated_tensors, rule
from toolkit.architectures.parts.checks import all_of, setting, silu
from toolkit.architectures.parts.dimensions import head_dim
from toolkit.architectures.parts.experts import MIXTURE, dense_first
from toolkit.architectures.parts.llama_block import DEFAULTS, NORMS, OUTPUT, OUTPUT_NORM
from toolkit.architectures.parts.transforms import compose, interleave_rope, row_range
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, boolean, float32, uint32
from toolkit.gguf.rows import RowSource


def _lengths(config: ModelConfig) -> tuple[int, int]:
    head = head_dim(config)
    return config.integer("num_attention_heads") * head, config.integer("num_key_value_heads") * head


def queries(source: RowSource, config: ModelConfig) -> RowSource:
    """Return the rows of Q."""
    return row_range(source, 0, _lengths(config)[0])


def keys(source: RowSource, config: ModelConfig) -> RowSource:
    """Return the rows of K."""
    q, kv = _lengths(config)
    return row_range(source, q, q + kv)


def values(source: RowSource, config: ModelConfig) -> RowSource:
    """Return the rows of V."""
    q, kv = _lengths(config)
    return row_range(source, q + kv, q + 2 * kv)


AROUND_THE_BLOCKS = (
    rule("model.word_embeddings", "token_embd", "vocab", "embd"),
    OUTPUT,
    OUTPUT_NORM,
)
_FUSED = ("attention.query_key_value", "q+2*kv", "embd")
ATTENTION = (
    block(_FUSED[0], "attn_q", *_FUSED[1:], transform=compose(queries, interleave_rope("num_attention_heads"))),
    block(_FUSED[0], "attn_k", *_FUSED[1:], transform=compose(keys, interleave_rope("num_key_value_heads"))),
    block(_FUSED[0], "attn_v", *_FUSED[1:], transform=values),
    block("attention.dense", "attn_output", "embd", "q"),
)


def _metadata(config: ModelConfig) -> Metadata:
    return {
        "rope.dimension_count": uint32(head_dim(config)),
        "leading_dense_block_count": uint32(config.integer("first_k_dense_replace", least=0)),
        "vocab_size": uint32(config.integer("vocab_size")),
        "expert_feed_forward_length": uint32(config.integer("moe_intermediate_size")),
        "expert_weights_scale": float32(1.0),
        "expert_shared_count": uint32(config.integer("n_shared_experts")),
        "expert_weights_norm": boolean(config.flag("norm_topk_prob")),
    }


BAILING_MOE = replace(
    LLAMA,
    name="bailingmoe",
    hf_classes=("BailingMoeForCausalLM",),
    compared=frozenset({"BailingMoeForCausalLM"}),
    model_types=("bailing_moe",),
    tensors=AROUND_THE_BLOCKS + NORMS + ATTENTION + dense_first(MIXTURE),
    class_defaults=DEFAULTS,
    metadata=_metadata,
    generated_tensors=no_generated_tensors,
    check=all_of(silu, setting("norm_head", False)),
    rope_types=("default", "linear", "yarn"),
    naming=Naming(embedding="word_embeddings"),
)

ARCHITECTURES = (BAILING_MOE,)
