"""Mixtral: Llama's attention with a mixture of experts; llama.cpp runs it as `llama`."""

from dataclasses import replace

from toolkit.architectures.families.mistral import MISTRAL
from toolkit.architectures.parts.experts import MIXTRAL_MIXTURE
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, ATTENTION, with_rope_order

MIXTRAL = replace(
    MISTRAL,
    hf_classes=("MixtralForCausalLM",),
    compared=frozenset({"MixtralForCausalLM"}),
    model_types=("mixtral",),
    tensors=AROUND_THE_BLOCKS + with_rope_order(ATTENTION) + MIXTRAL_MIXTURE,
    class_defaults=MISTRAL.class_defaults
    | {"rms_norm_eps": 1e-5, "rope_theta": 1e6, "num_local_experts": 8, "num_experts_per_tok": 2},
)

ARCHITECTURES = (MIXTRAL,)
