"""Apertus: an MLP without gate whose activation, xIELU, has four numbers a layer; norms on the heads of Q and K."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import block
from toolkit.architectures.parts.checks import activation, all_of, setting
from toolkit.architectures.parts.llama_block import (
    AROUND_THE_BLOCKS,
    ATTENTION_BIAS,
    DEFAULTS,
    HEAD_NORMS,
    PLAIN_MLP,
    PROJECTIONS,
    llama_metadata,
)

NORMS = (
    block("attention_layernorm", "attn_norm", "embd"),
    block("feedforward_layernorm", "ffn_norm", "embd"),
)
NUMBERS = ("alpha_n", "alpha_p", "beta", "eps")

APERTUS = replace(
    LLAMA,
    name="apertus",
    hf_classes=("ApertusForCausalLM",),
    compared=frozenset({"ApertusForCausalLM"}),
    model_types=("apertus",),
    tensors=AROUND_THE_BLOCKS + NORMS + PROJECTIONS + ATTENTION_BIAS + HEAD_NORMS + PLAIN_MLP,
    metadata=llama_metadata,
    class_defaults=DEFAULTS
    | {"hidden_act": "xielu", "max_position_embeddings": 65536, "rms_norm_eps": 1e-5, "rope_theta": 12000000.0},
    check=all_of(activation("xielu"), setting("qk_norm", True), setting("post_norm", False)),
    scalars={f"model.layers.{{layer}}.mlp.act_fn.{name}": f"xielu.{name}" for name in NUMBERS},
)

ARCHITECTURES = (APERTUS,)
