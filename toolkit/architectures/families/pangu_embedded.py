"""openPangu Embedded: Llama with biases on attention, rope over split halves."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import biases
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.dimensions import head_dim
from toolkit.architectures.parts.llama_block import (
    AROUND_THE_BLOCKS,
    ATTENTION,
    DEFAULTS,
    GATED_MLP,
    PROJECTIONS,
    llama_metadata,
)
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32


def _metadata(config: ModelConfig) -> Metadata:
    length = uint32(head_dim(config))
    return llama_metadata(config) | {"attention.key_length": length, "attention.value_length": length}


PANGU = replace(
    LLAMA,
    name="pangu-embedded",
    hf_classes=("PanguEmbeddedForCausalLM",),
    model_types=("PanguEmbedded",),
    tensors=AROUND_THE_BLOCKS + ATTENTION + biases(PROJECTIONS, "bias") + GATED_MLP,
    defaults=DEFAULTS | {"bias": True},
    metadata=_metadata,
    check=silu,
    vocabularies=("sentencepiece",),
)

ARCHITECTURES = (PANGU,)
