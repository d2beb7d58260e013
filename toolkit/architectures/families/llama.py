"""Llama 1, 2 and 3, and models that are Llama under another class."""

from dataclasses import replace

from toolkit.architectures.parts.base import Architecture
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.llama_block import (
    AROUND_THE_BLOCKS,
    ATTENTION,
    ATTENTION_BIAS,
    COMPUTED_BUFFERS,
    DEFAULTS,
    DERIVED,
    GATED_MLP,
    MLP_BIAS,
    head_lengths,
    llama_metadata,
    rope_factors,
    with_rope_order,
)

LLAMA = Architecture(
    name="llama",
    hf_classes=("LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel", "IQuestCoderForCausalLM"),
    compared=frozenset({"LlamaForCausalLM"}),
    model_types=("llama",),
    tensors=AROUND_THE_BLOCKS + with_rope_order(ATTENTION + ATTENTION_BIAS) + GATED_MLP + MLP_BIAS,
    class_defaults=DEFAULTS,
    derived=DERIVED,
    metadata=lambda config: llama_metadata(config) | head_lengths(config),
    generated_tensors=rope_factors,
    check=silu,
    rope_types=("default", "linear", "yarn", "llama3"),
    vocabularies=("tekken", "sentencepiece", "llama_hf", "bpe"),
    dropped=COMPUTED_BUFFERS,
)

LLAMA_EMBED = replace(
    LLAMA,
    name="llama-embed",
    hf_classes=("LlamaBidirectionalModel",),
    compared=frozenset({"LlamaBidirectionalModel"}),
    model_types=("llama_bidirec",),
    metadata=llama_metadata,
    pools=True,
)
"""NVIDIA's embedders made of Llama: every token sees every other."""

JANUS = replace(
    LLAMA,
    hf_classes=("JanusForConditionalGeneration",),
    compared=frozenset({"JanusForConditionalGeneration"}),
    model_types=("janus",),
)
"""The text model of Janus Pro; what it draws pictures with is left out."""

VLLAMA3 = replace(
    LLAMA,
    hf_classes=("VLlama3ForCausalLM",),
    compared=frozenset({"VLlama3ForCausalLM"}),
    model_types=(),
    class_defaults=LLAMA.class_defaults | {"num_attention_heads": 32},
)
"""The text model of SmolVLM and Idefics 3, whose configs may not say how many heads it has."""

ARCHITECTURES = (LLAMA, LLAMA_EMBED, JANUS, VLLAMA3)
