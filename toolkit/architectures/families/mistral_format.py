"""Mistral under the names of its own format, whose Q and K are in the order that llama.cpp rotates already."""

from dataclasses import replace

from toolkit.architectures.families.mistral import MISTRAL
from toolkit.architectures.parts.base import Naming, block, rule
from toolkit.architectures.parts.llama_block import DEFAULTS, untied
from toolkit.checkpoint.mistral_format import CLASS

TENSORS = (
    rule("model.tok_embeddings", "token_embd", "vocab", "embd"),
    rule("model.norm", "output_norm", "embd"),
    replace(rule("output", "output", "vocab", "embd"), required=untied),
    block("attention_norm", "attn_norm", "embd"),
    block("ffn_norm", "ffn_norm", "embd"),
    block("attention.wq", "attn_q", "q", "embd"),
    block("attention.wk", "attn_k", "kv", "embd"),
    block("attention.wv", "attn_v", "kv", "embd"),
    block("attention.wo", "attn_output", "embd", "q"),
    block("feed_forward.w1", "ffn_gate", "ff", "embd"),
    block("feed_forward.w3", "ffn_up", "ff", "embd"),
    block("feed_forward.w2", "ffn_down", "embd", "ff"),
)

MISTRAL_FORMAT = replace(
    MISTRAL,
    hf_classes=(CLASS,),
    compared=frozenset({"MistralTransformer"}),
    model_types=(),
    tensors=TENSORS,
    class_defaults=DEFAULTS | {"max_position_embeddings": 131072},
    rope_types=("default",),
    naming=Naming(embedding="tok_embeddings", output="output"),
)

ARCHITECTURES = (MISTRAL_FORMAT,)
