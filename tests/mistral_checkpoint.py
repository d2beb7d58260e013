"""Checkpoints of the kit as Mistral's own code would have them: params.json and consolidated.safetensors."""

import re

import numpy
from editable_checkpoint import EditableCheckpoint

NAMES = {
    r"model\.embed_tokens\.": "tok_embeddings.",
    r"model\.norm\.": "norm.",
    r"lm_head\.": "output.",
    r"model\.layers\.(\d+)\.input_layernorm\.": r"layers.\1.attention_norm.",
    r"model\.layers\.(\d+)\.post_attention_layernorm\.": r"layers.\1.ffn_norm.",
    r"model\.layers\.(\d+)\.self_attn\.(q|k|v|o)_proj\.": r"layers.\1.attention.w\2.",
    r"model\.layers\.(\d+)\.mlp\.gate_proj\.": r"layers.\1.feed_forward.w1.",
    r"model\.layers\.(\d+)\.mlp\.down_proj\.": r"layers.\1.feed_forward.w2.",
    r"model\.layers\.(\d+)\.mlp\.up_proj\.": r"layers.\1.feed_forward.w3.",
}
PARAMS = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "head_dim": "head_dim",
    "intermediate_size": "hidden_dim",
    "num_attention_heads": "n_heads",
    "num_key_value_heads": "n_kv_heads",
    "rms_norm_eps": "norm_eps",
    "vocab_size": "vocab_size",
    "rope_theta": "rope_theta",
    "max_position_embeddings": "max_position_embeddings",
}


def as_mistral_format(checkpoint: EditableCheckpoint) -> None:
    """Rename config and tensors, and undo the order that transformers' converter gives the rows of Q and K."""
    config, tensors = checkpoint.config, checkpoint.tensors
    heads = {"wq": config["num_attention_heads"], "wk": config["num_key_value_heads"]}
    checkpoint.tensors = {}
    for name, (dtype, rows) in tensors.items():
        own = own_name(name)
        n_heads = next((count for part, count in heads.items() if f".{part}." in own), None)
        checkpoint.tensors[own] = (dtype, rows if n_heads is None else neighbours_together(rows, n_heads))
    checkpoint.config = {own: config[name] for name, own in PARAMS.items() if name in config}
    checkpoint.config_name, checkpoint.weights_name = "params.json", "consolidated.safetensors"


def own_name(name: str) -> str:
    return next(re.sub(pattern, own, name) for pattern, own in NAMES.items() if re.match(pattern, name))


def neighbours_together(rows: numpy.ndarray, n_heads: int) -> numpy.ndarray:
    halves = rows.reshape(n_heads, 2, len(rows) // n_heads // 2, rows.shape[1])
    return numpy.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))
