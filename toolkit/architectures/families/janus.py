"""Janus Pro, its text model: Llama; what it draws pictures with is left out."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA

JANUS = replace(LLAMA, hf_classes=("JanusForConditionalGeneration",), model_types=("janus",))

ARCHITECTURES = (JANUS,)
