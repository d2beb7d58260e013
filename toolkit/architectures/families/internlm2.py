"""InternLM 2: Llama with QKV fused by groups of heads that share K and V."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import Naming, Transform, block, no_generated_tensors, no_metadata, rule
from toolkit.architectures.parts.dimensions import head_dim
from toolkit.architectures.parts.llama_block import DEFAULTS, untied
from toolkit.architectures.parts.row_sources import Indices
from toolkit.architectures.parts.transforms import compose, interleave_rope, regrouped, ungrouped
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.rows import RowSource


def _order(config: ModelConfig) -> tuple[Indices, int, int]:
    groups, head = config.integer("num_key_value_heads"), head_dim(config)
    queries = config.integer("num_attention_heads") // groups * head
    return ungrouped(groups, (queries, head, head)), groups * queries, groups * head


def queries(source: RowSource, config: ModelConfig) -> RowSource:
    """Return the rows of Q."""
    order, length, _ = _order(config)
    return regrouped(source, order[:length])


def keys(source: RowSource, config: ModelConfig) -> RowSource:
    """Return the rows of K."""
    order, first, length = _order(config)
    return regrouped(source, order[first : first + length])


def values(source: RowSource, config: ModelConfig) -> RowSource:
    """Return the rows of V."""
    order, first, length = _order(config)
    return regrouped(source, order[first + length :])


_WQKV: tuple[tuple[str, Transform], ...] = (
    ("attn_q", compose(queries, interleave_rope("num_attention_heads"))),
    ("attn_k", compose(keys, interleave_rope("num_key_value_heads"))),
    ("attn_v", values),
)
TENSORS = (
    rule("model.tok_embeddings", "token_embd", "vocab", "embd"),
    rule("model.norm", "output_norm", "embd"),
    replace(rule("output", "output", "vocab", "embd"), required=untied),
    block("attention_norm", "attn_norm", "embd"),
    *(block("attention.wqkv", target, "q+2*kv", "embd", transform=transform) for target, transform in _WQKV),
    block("attention.wo", "attn_output", "embd", "q"),
    block("ffn_norm", "ffn_norm", "embd"),
    block("feed_forward.w1", "ffn_gate", "ff", "embd"),
    block("feed_forward.w3", "ffn_up", "ff", "embd"),
    block("feed_forward.w2", "ffn_down", "embd", "ff"),
)

INTERNLM2 = replace(
    LLAMA,
    name="internlm2",
    hf_classes=("InternLM2ForCausalLM",),
    compared=frozenset({"InternLM2ForCausalLM"}),
    model_types=("internlm2",),
    tensors=TENSORS,
    class_defaults=DEFAULTS,
    metadata=no_metadata,
    generated_tensors=no_generated_tensors,
    rope_types=("default", "linear"),
    naming=Naming(embedding="tok_embeddings", output="output"),
)

ARCHITECTURES = (INTERNLM2,)
