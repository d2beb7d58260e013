"""Latent attention (MLA): Q, K and V unpacked from short vectors.

llama.cpp keeps the latent in its cache: the matrix that unpacks it is split into that of the keys, transposed, and that of
the values, a matrix for each head.
"""

from dataclasses import replace

from toolkit.architectures.parts.base import block
from toolkit.architectures.parts.rope import global_rope
from toolkit.architectures.parts.row_sources import Transposed
from toolkit.architectures.parts.transforms import head_rows
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, float32, uint32
from toolkit.gguf.rows import RowSource

_QK = "num_attention_heads*qk_nope_head_dim+num_attention_heads*qk_rope_head_dim"
_KV_B = "num_attention_heads*qk_nope_head_dim+num_attention_heads*v_head_dim"


def keys_of_heads(source: RowSource, config: ModelConfig) -> RowSource:
    """Return [heads, latent, key length]: the first rows of every head, transposed."""
    return Transposed(head_rows(source, config.integer("num_attention_heads"), 0, config.integer("qk_nope_head_dim")))


def values_of_heads(source: RowSource, config: ModelConfig) -> RowSource:
    """Return [heads, value length, latent]: the last rows of every head."""
    first = config.integer("qk_nope_head_dim")
    return head_rows(source, config.integer("num_attention_heads"), first, first + config.integer("v_head_dim"))


def _compressed_q(config: ModelConfig) -> bool:
    return config.has("q_lora_rank")


def _full_q(config: ModelConfig) -> bool:
    return not _compressed_q(config)


COMPRESSED_Q = (
    replace(block("self_attn.q_proj", "attn_q", _QK, "embd"), required=_full_q),
    replace(block("self_attn.q_a_proj", "attn_q_a", "q_lora_rank", "embd"), required=_compressed_q),
    replace(block("self_attn.q_a_layernorm", "attn_q_a_norm", "q_lora_rank"), required=_compressed_q),
    replace(block("self_attn.q_b_proj", "attn_q_b", _QK, "q_lora_rank"), required=_compressed_q),
)
LATENT = (
    block("self_attn.kv_a_proj_with_mqa", "attn_kv_a_mqa", "kv_lora_rank+qk_rope_head_dim", "embd"),
    block("self_attn.kv_a_layernorm", "attn_kv_a_norm", "kv_lora_rank"),
)
UNPACKING = (
    block("self_attn.kv_b_proj", "attn_k_b", _KV_B, "kv_lora_rank", transform=keys_of_heads),
    block("self_attn.kv_b_proj", "attn_v_b", _KV_B, "kv_lora_rank", transform=values_of_heads),
)
MLA_OUTPUT = block("self_attn.o_proj", "attn_output", "embd", "num_attention_heads*v_head_dim")
MLA = (*COMPRESSED_Q, *LATENT, *UNPACKING, MLA_OUTPUT)


def latent_metadata(config: ModelConfig) -> Metadata:
    """Return the lengths of latent attention, which llama.cpp runs with one head of K and V."""
    latent, rotated = config.integer("kv_lora_rank"), config.integer("qk_rope_head_dim")
    metadata: Metadata = {
        "vocab_size": uint32(config.integer("vocab_size")),
        "attention.head_count_kv": uint32(1),
        "attention.kv_lora_rank": uint32(latent),
        "attention.key_length": uint32(latent + rotated),
        "attention.value_length": uint32(latent),
        "attention.key_length_mla": uint32(config.integer("qk_nope_head_dim") + rotated),
        "attention.value_length_mla": uint32(config.integer("v_head_dim")),
        "rope.dimension_count": uint32(rotated),
    }
    if _compressed_q(config):
        metadata["attention.q_lora_rank"] = uint32(config.integer("q_lora_rank"))
    return metadata


def yarn_metadata(config: ModelConfig) -> Metadata:
    """Return yarn's scale of attention."""
    rope = global_rope(config)
    if not rope.has("mscale_all_dim"):
        return {}
    return {"rope.scaling.yarn_log_multiplier": float32(0.1 * rope.number("mscale_all_dim"))}
