"""Gemma 1: Llama's block with norms stored as their distance from 1 and the embedding as the output."""

from toolkit.architectures.parts.base import Architecture, transformed
from toolkit.architectures.parts.checks import all_of, gelu, tied
from toolkit.architectures.parts.llama_block import ATTENTION, GATED_MLP, OUTPUT_NORM, TOKEN_EMBD
from toolkit.architectures.parts.transforms import plus_one

GEMMA = Architecture(
    name="gemma",
    hf_classes=("GemmaForCausalLM",),
    compared=frozenset({"GemmaForCausalLM"}),
    model_types=("gemma",),
    tensors=transformed((TOKEN_EMBD, OUTPUT_NORM, *ATTENTION, *GATED_MLP), plus_one, "norm"),
    class_defaults={
        "intermediate_size": 24576,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 256,
        "hidden_act": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
    },
    unwritten=frozenset({"rope"}),
    check=all_of(gelu, tied),
    rope_types=("default",),
    # Without tokenizer.model the merges of tokenizer.json split text as its scores would.
    vocabularies=("sentencepiece", "gemma4"),
)

ARCHITECTURES = (GEMMA,)
