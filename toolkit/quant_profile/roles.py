"""What a tensor does in the model, as far as quantization cares; read from its GGUF name.

Source: `tensor_get_category` in src/llama-quant.cpp of llama.cpp (commit 0c1e570). Order matters, because names are
searched for parts: `ffn_gate_up` is an `ffn_gate`, `cross_attn_v.weight` an `attn_v`.
"""

import re

from toolkit.gguf.format import EMBEDDING, OUTPUT

TOKEN_EMBEDDINGS = (EMBEDDING, "per_layer_token_embd.weight")

_PARTS = (
    ("attn_qkv", "attn_qkv.weight"),
    ("attn_kv_b", "attn_kv_b.weight"),
    ("attn_v", "attn_v.weight"),
    ("attn_k", "attn_k.weight"),
    ("attn_q", "attn_q.weight"),
    ("attn_output", "attn_output.weight"),
    ("ffn_up", "ffn_up"),
    ("ffn_gate", "ffn_gate"),
    ("ffn_down", "ffn_down"),
)

ROLES = ("output", "token_embd", *(role for role, _ in _PARTS), "other")
VALUE_ROLES = ("attn_v", "attn_qkv", "attn_kv_b")
"""Roles that hold attention values, the most sensitive part; they are counted together."""
FFN_ROLES = ("ffn_up", "ffn_gate", "ffn_down")

_BLOCK = re.compile(r"blk\.(\d+)")


def role_of(name: str, *, tied: bool) -> str:
    """Return the role of a tensor; a tied token embedding is the output too, and counts as that."""
    if name == OUTPUT:
        return "output"
    if name in TOKEN_EMBEDDINGS:
        return "output" if tied else "token_embd"
    return next((role for role, part in _PARTS if part in name), "other")


def block_of(name: str) -> int | None:
    """Return the block that a tensor belongs to, None if it stands outside the blocks."""
    match = _BLOCK.match(name)
    return int(match[1]) if match else None


def walking_order(name: str) -> tuple[int, bytes]:
    """Return a sort key: the order in which llama.cpp meets tensors, and therefore counts them."""
    block = block_of(name)
    return (-1 if block is None else block, name.encode())
