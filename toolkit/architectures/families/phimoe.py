"""Phi 3.5 MoE: LayerNorm, biases (also on the output), experts named as Mixtral's."""

from dataclasses import replace

from toolkit.architectures.families.llama import AROUND_THE_BLOCKS, NORMS, OUTPUT, OUTPUT_NORM, PROJECTIONS
from toolkit.architectures.families.mixtral import EXPERTS, ROUTER
from toolkit.architectures.families.phi3 import PHI3
from toolkit.architectures.parts.base import biases

PHIMOE = replace(
    PHI3,
    name="phimoe",
    hf_classes=("PhiMoEForCausalLM", "PhimoeForCausalLM"),
    model_types=("phimoe",),
    tensors=AROUND_THE_BLOCKS
    + biases(OUTPUT, "lm_head_bias")
    + biases(OUTPUT_NORM + NORMS)
    + NORMS
    + PROJECTIONS
    + biases(PROJECTIONS, "attention_bias")
    + ROUTER
    + EXPERTS,
    defaults=PHI3.defaults
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
