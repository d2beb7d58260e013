"""Orion: Llama's block with LayerNorm; its config calls the epsilon of that as Llama calls the one of RMSNorm."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import biases, no_generated_tensors
from toolkit.architectures.parts.checks import all_of, setting, silu
from toolkit.architectures.parts.llama_block import (
    AROUND_THE_BLOCKS,
    ATTENTION,
    DEFAULTS,
    GATED_MLP,
    NORMS,
    OUTPUT_NORM,
)
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, string, uint32


def _metadata(config: ModelConfig) -> Metadata:
    context = config.integer("max_sequence_length", config.integer("max_position_embeddings"))
    return {"context_length": uint32(context), "tensor_data_layout": string("Meta AI original pth")}


ORION = replace(
    LLAMA,
    name="orion",
    hf_classes=("OrionForCausalLM",),
    compared=frozenset({"OrionForCausalLM"}),
    model_types=("orion",),
    tensors=AROUND_THE_BLOCKS + ATTENTION + biases((OUTPUT_NORM, *NORMS)) + GATED_MLP,
    class_defaults=DEFAULTS,
    aliases={"layer_norm_eps": "rms_norm_eps"},
    metadata=_metadata,
    unwritten=frozenset({"rope"}),
    norm="layer_norm_eps",
    generated_tensors=no_generated_tensors,
    check=all_of(silu, setting("rope_theta", 10000.0)),
    rope_types=("default",),
    vocabularies=("sentencepiece",),
)

ARCHITECTURES = (ORION,)
