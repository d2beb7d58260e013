"""The text model of SmolVLM and Idefics 3: Llama under a class of its own, whose configs may not say how many heads it has."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA

VLLAMA3 = replace(
    LLAMA,
    hf_classes=("VLlama3ForCausalLM",),
    model_types=(),
    defaults=LLAMA.defaults | {"num_attention_heads": 32},
)

ARCHITECTURES = (VLLAMA3,)
