"""Mamba 2: heads that share a decay, groups that share B and C, a gated norm."""

from toolkit.architectures.parts.base import Architecture, Naming, block
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.state_space import (
    AROUND_THE_STATES,
    NO_ATTENTION,
    gated_norm,
    heads_metadata,
    heads_of_states,
    unbounded,
)

MAMBA2 = Architecture(
    name="mamba2",
    hf_classes=("Mamba2ForCausalLM",),
    compared=frozenset({"Mamba2ForCausalLM"}),
    model_types=("mamba2",),
    tensors=(*AROUND_THE_STATES, block("norm", "attn_norm", "embd"), *heads_of_states("mixer"), *gated_norm("mixer")),
    class_defaults={
        "conv_kernel": 4,
        "expand": 2,
        "state_size": 128,
        "head_dim": 64,
        "n_groups": 1,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    },
    aliases={"ssm_conv": "conv_kernel", "ssm_state": "state_size", "ssm_groups": "n_groups"},
    derived={
        "ssm_inner": lambda config: config.integer("expand") * config.integer("hidden_size"),
        "ssm_rank": lambda config: config.integer("ssm_inner") // config.integer("head_dim"),
    },
    metadata=lambda config: unbounded(config) | heads_metadata(config),
    unwritten=NO_ATTENTION,
    check=silu,
    naming=Naming(embedding="embeddings"),
)

ARCHITECTURES = (MAMBA2,)
