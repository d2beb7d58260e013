"""Mixtral: Llama's attention with a mixture of experts; llama.cpp runs it as `llama`."""

from dataclasses import replace

from toolkit.architectures.families.llama import AROUND_THE_BLOCKS, ATTENTION, with_rope_order
from toolkit.architectures.families.mistral import MISTRAL
from toolkit.architectures.parts.base import block
from toolkit.architectures.parts.experts import MIXTRAL_NAMES, experts

ROUTER = (block("block_sparse_moe.gate", "ffn_gate_inp", "experts", "embd"),)
EXPERTS = experts("block_sparse_moe.experts", names=MIXTRAL_NAMES, ff="ff")

MIXTRAL = replace(
    MISTRAL,
    hf_classes=("MixtralForCausalLM",),
    model_types=("mixtral",),
    tensors=AROUND_THE_BLOCKS + with_rope_order(ATTENTION) + ROUTER + EXPERTS,
    defaults=MISTRAL.defaults
    | {"rms_norm_eps": 1e-5, "rope_theta": 1e6, "num_local_experts": 8, "num_experts_per_tok": 2},
)

ARCHITECTURES = (MIXTRAL,)
