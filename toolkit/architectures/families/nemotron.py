"""Nemotron 3 and Minitron: LayerNorm stored as its distance from 1, squared ReLU without gate, rope on a part of a head."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import biases, no_generated_tensors, transformed
from toolkit.architectures.parts.checks import relu_squared
from toolkit.architectures.parts.llama_block import (
    AROUND_THE_BLOCKS,
    ATTENTION,
    ATTENTION_BIAS,
    DEFAULTS,
    DERIVED,
    NORMS,
    OUTPUT_NORM,
    PLAIN_MLP,
    computed_head_dim,
)
from toolkit.architectures.parts.rope import global_rope, rotary_metadata
from toolkit.architectures.parts.transforms import plus_one
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, float32, string, uint32


def _metadata(config: ModelConfig) -> Metadata:
    metadata = rotary_metadata(config) | {
        "vocab_size": uint32(config.integer("vocab_size")),
        "attention.layer_norm_epsilon": float32(config.number("rms_norm_eps")),
        "rope.scaling.type": string("none"),
    }
    scaling = config if config.has("factor") else global_rope(config)
    if not scaling.has("factor"):
        return metadata
    return metadata | {"rope.scaling.type": string("linear"), "rope.scaling.factor": float32(scaling.number("factor"))}


NEMOTRON = replace(
    LLAMA,
    name="nemotron",
    hf_classes=("NemotronForCausalLM",),
    compared=frozenset({"NemotronForCausalLM"}),
    model_types=("nemotron",),
    tensors=transformed(AROUND_THE_BLOCKS + ATTENTION + PLAIN_MLP, plus_one, "norm.weight")
    + biases((OUTPUT_NORM, *NORMS))
    + ATTENTION_BIAS
    + biases(PLAIN_MLP, "mlp_bias"),
    class_defaults=DEFAULTS
    | {
        "hidden_act": "relu2",
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "partial_rotary_factor": 0.5,
    },
    derived=DERIVED | {"head_dim": computed_head_dim},
    metadata=_metadata,
    generated_tensors=no_generated_tensors,
    check=relu_squared,
    rope_types=("default", "linear"),
)

ARCHITECTURES = (NEMOTRON,)
