"""Qwen 1: Llama's block under GPT-2's names, with a fused QKV; `intermediate_size` counts gate and up together."""

from dataclasses import replace
from functools import partial

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import Naming, biases, block, no_generated_tensors, no_metadata, rule
from toolkit.architectures.parts.checks import setting
from toolkit.architectures.parts.llama_block import OUTPUT

_h = partial(block, within="h")
QKV = (_h("attn.c_attn", "attn_qkv", "3*embd", "embd"),)

QWEN = replace(
    LLAMA,
    name="qwen",
    hf_classes=("QWenLMHeadModel",),
    compared=frozenset({"QWenLMHeadModel"}),
    model_types=("qwen",),
    tensors=(
        rule("model.wte", "token_embd", "vocab", "embd"),
        rule("model.ln_f", "output_norm", "embd"),
        OUTPUT,
        _h("ln_1", "attn_norm", "embd"),
        *QKV,
        *biases(QKV),
        _h("attn.c_proj", "attn_output", "embd", "embd"),
        _h("ln_2", "ffn_norm", "embd"),
        _h("mlp.w2", "ffn_gate", "one_half", "embd"),
        _h("mlp.w1", "ffn_up", "one_half", "embd"),
        _h("mlp.c_proj", "ffn_down", "embd", "one_half"),
    ),
    class_defaults={
        "intermediate_size": 22016,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    derived={"one_half": lambda config: config.integer("intermediate_size") // 2},
    metadata=no_metadata,
    unwritten=frozenset({"attention.head_count_kv"}),
    generated_tensors=no_generated_tensors,
    check=setting("no_bias", True),
    rope_types=("default",),
    vocabularies=("qwen_tiktoken", "bpe"),
    naming=Naming(embedding="wte", blocks="h"),
)

ARCHITECTURES = (QWEN,)
