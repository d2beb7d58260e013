"""Mistral: Llama's tensors and graph under another class, with its own defaults."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.llama_block import DEFAULTS, llama_metadata

MISTRAL = replace(
    LLAMA,
    hf_classes=("MistralForCausalLM",),
    compared=frozenset({"MistralForCausalLM"}),
    model_types=("mistral",),
    class_defaults=DEFAULTS | {"num_key_value_heads": 8, "max_position_embeddings": 131072},
    metadata=llama_metadata,
)

ARCHITECTURES = (MISTRAL,)
