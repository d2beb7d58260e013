"""openPangu Embedded: Llama with biases on attention, rope over split halves."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import biases
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.llama_block import (
    AROUND_THE_BLOCKS,
    ATTENTION,
    DEFAULTS,
    GATED_MLP,
    PROJECTIONS,
)

PANGU = replace(
    LLAMA,
    name="pangu-embedded",
    hf_classes=("PanguEmbeddedForCausalLM",),
    compared=frozenset({"PanguEmbeddedForCausalLM"}),
    model_types=("PanguEmbedded",),
    tensors=AROUND_THE_BLOCKS + ATTENTION + biases(PROJECTIONS, "bias") + GATED_MLP,
    class_defaults=DEFAULTS | {"bias": True},
    check=silu,
    vocabularies=("sentencepiece",),
)

ARCHITECTURES = (PANGU,)
