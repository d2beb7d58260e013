"""NVIDIA's embedders made of Llama: every token sees every other."""

from dataclasses import replace

from toolkit.architectures.families.llama import DEFAULTS, LLAMA

LLAMA_EMBED = replace(
    LLAMA,
    name="llama-embed",
    hf_classes=("LlamaBidirectionalModel",),
    model_types=("llama_bidirec",),
    defaults=DEFAULTS,
    pools=True,
)

ARCHITECTURES = (LLAMA_EMBED,)
