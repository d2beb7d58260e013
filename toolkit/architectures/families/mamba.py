"""Mamba 1: a state space model without attention or MLP."""

from dataclasses import replace

from toolkit.architectures.parts.base import Architecture, Naming, block
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.state_space import (
    AROUND_THE_STATES,
    NO_ATTENTION,
    state_space,
    state_space_metadata,
    time_step_rank,
    unbounded,
)
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, boolean


def _metadata(config: ModelConfig) -> Metadata:
    return unbounded(config) | state_space_metadata(config) | {"ssm.dt_b_c_rms": boolean(False)}


MAMBA = Architecture(
    name="mamba",
    hf_classes=("MambaForCausalLM",),
    compared=frozenset({"MambaForCausalLM"}),
    model_types=("mamba",),
    tensors=(*AROUND_THE_STATES, block("norm", "attn_norm", "embd"), *state_space("mixer")),
    class_defaults={
        "conv_kernel": 4,
        "state_size": 16,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    },
    aliases={"ssm_conv": "conv_kernel", "ssm_inner": "intermediate_size", "ssm_state": "state_size"},
    derived={
        "ssm_inner": lambda config: 2 * config.integer("hidden_size"),
        "ssm_rank": lambda config: time_step_rank(config, "time_step_rank"),
    },
    metadata=_metadata,
    unwritten=NO_ATTENTION,
    check=silu,
    naming=Naming(embedding="embeddings"),
)


def _falcon_metadata(config: ModelConfig) -> Metadata:
    return _metadata(config) | {"ssm.dt_b_c_rms": boolean(True)}


FALCON_MAMBA = replace(
    MAMBA,
    hf_classes=("FalconMambaForCausalLM",),
    compared=frozenset({"FalconMambaForCausalLM"}),
    model_types=("falcon_mamba",),
    class_defaults={**MAMBA.class_defaults, "tie_word_embeddings": False},
    metadata=_falcon_metadata,
)
"""Falcon Mamba: norms without weights on the time step and on both ends of the state."""

ARCHITECTURES = (MAMBA, FALCON_MAMBA)
