"""Jais 2: LayerNorm, biases everywhere, squared ReLU without gate."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import biases, no_generated_tensors
from toolkit.architectures.parts.checks import relu_squared
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, ATTENTION, DEFAULTS, OUTPUT_NORM, PLAIN_MLP
from toolkit.architectures.parts.rope import rotary_metadata

BIASED = ATTENTION + PLAIN_MLP

JAIS2 = replace(
    LLAMA,
    name="jais2",
    hf_classes=("Jais2ForCausalLM",),
    compared=frozenset({"Jais2ForCausalLM"}),
    model_types=("jais2",),
    tensors=AROUND_THE_BLOCKS + biases((OUTPUT_NORM,)) + BIASED + biases(BIASED),
    class_defaults=DEFAULTS | {"hidden_act": "relu2", "layer_norm_eps": 1e-5, "max_position_embeddings": 8192},
    metadata=rotary_metadata,
    norm="layer_norm_eps",
    generated_tensors=no_generated_tensors,
    check=relu_squared,
    rope_types=("default", "linear", "yarn"),
    vocabularies=("bpe",),
)

ARCHITECTURES = (JAIS2,)
