"""Maincoder: Qwen 3's block under a class of its own."""

from dataclasses import replace

from toolkit.architectures.families.qwen3 import QWEN3
from toolkit.architectures.parts.rope import rotary_metadata

MAINCODER = replace(
    QWEN3,
    name="maincoder",
    hf_classes=("MaincoderForCausalLM",),
    compared=frozenset({"MaincoderForCausalLM"}),
    model_types=("maincoder",),
    metadata=rotary_metadata,
    vocabularies=("bpe",),
    pools=False,
)

ARCHITECTURES = (MAINCODER,)
