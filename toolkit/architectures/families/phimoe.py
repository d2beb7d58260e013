"""Phi 3.5 MoE: LayerNorm, biases (also on the output), experts named as Mixtral's."""

from dataclasses import replace

from toolkit.architectures.families.phi3 import PHI3
from toolkit.architectures.parts.base import biases
from toolkit.architectures.parts.experts import MIXTRAL_MIXTURE
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, NORMS, OUTPUT, OUTPUT_NORM, PROJECTIONS

PHIMOE = replace(
    PHI3,
    name="phimoe",
    hf_classes=("PhiMoEForCausalLM", "PhimoeForCausalLM"),
    compared=frozenset({"PhiMoEForCausalLM"}),
    model_types=("phimoe",),
    tensors=AROUND_THE_BLOCKS
    + biases((OUTPUT,), "lm_head_bias")
    + biases((OUTPUT_NORM, *NORMS))
    + NORMS
    + PROJECTIONS
    + biases(PROJECTIONS, "attention_bias")
    + MIXTRAL_MIXTURE,
    class_defaults=PHI3.class_defaults
    | {
        "intermediate_size": 6400,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
        "rope_theta": 1000000.0,
        "num_local_experts": 16,
        "num_experts_per_tok": 2,
    },
)

ARCHITECTURES = (PHIMOE,)
