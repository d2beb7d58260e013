"""Mamba 1: a state space model without attention or MLP."""

import math
from dataclasses import replace

from toolkit.architectures.families.llama import OUTPUT
from toolkit.architectures.parts.base import Architecture, Naming, Rules, bare_block, block, rule
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.hybrids import UNBOUNDED_CONTEXT
from toolkit.architectures.parts.transforms import negative_exponential, squeeze
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, boolean, uint32

AROUND = (
    rule("model.embeddings", "token_embd", "vocab", "embd"),
    rule("model.norm_f", "output_norm", "embd"),
    *OUTPUT,
)
NO_ATTENTION = frozenset(
    {
        "rope",
        "context_length",
        "feed_forward_length",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
    }
)


def state_space(module: str) -> Rules:
    """Return the rules of a Mamba 1 mixer; lengths are keys that the family has or derives."""
    return (
        bare_block(f"{module}.A_log", "ssm_a", "ssm_inner", "ssm_state", transform=negative_exponential),
        bare_block(f"{module}.D", "ssm_d", "ssm_inner"),
        block(f"{module}.conv1d", "ssm_conv1d", "ssm_inner", "1", "ssm_conv", transform=squeeze),
        block(f"{module}.conv1d.bias", "ssm_conv1d.bias", "ssm_inner"),
        block(f"{module}.in_proj", "ssm_in", "2*ssm_inner", "embd"),
        block(f"{module}.x_proj", "ssm_x", "ssm_rank+2*ssm_state", "ssm_inner"),
        block(f"{module}.dt_proj", "ssm_dt", "ssm_inner", "ssm_rank"),
        block(f"{module}.dt_proj.bias", "ssm_dt.bias", "ssm_inner"),
        block(f"{module}.out_proj", "ssm_out", "embd", "ssm_inner"),
    )


def state_space_metadata(config: ModelConfig) -> Metadata:
    """Return the sizes of the state space."""
    return {
        "ssm.conv_kernel": uint32(config.integer("ssm_conv")),
        "ssm.inner_size": uint32(config.integer("ssm_inner")),
        "ssm.state_size": uint32(config.integer("ssm_state")),
        "ssm.time_step_rank": uint32(config.integer("ssm_rank")),
    }


def unbounded(_config: ModelConfig) -> Metadata:
    """Return what llama.cpp wants to read though the model has no positions, attention or MLP."""
    return {
        "context_length": uint32(UNBOUNDED_CONTEXT),
        "feed_forward_length": uint32(0),
        "attention.head_count": uint32(0),
    }


def time_step_rank(config: ModelConfig, key: str) -> int:
    """Return the rank of the time step, a sixteenth of the width unless the config gives a number."""
    rank = config.values.get(key)
    return rank if isinstance(rank, int) else math.ceil(config.integer("hidden_size") / 16)


def _metadata(config: ModelConfig) -> Metadata:
    return unbounded(config) | state_space_metadata(config) | {"ssm.dt_b_c_rms": boolean(False)}


MAMBA = Architecture(
    name="mamba",
    hf_classes=("MambaForCausalLM",),
    model_types=("mamba",),
    tensors=(*AROUND, block("norm", "attn_norm", "embd"), *state_space("mixer")),
    defaults={
        "ssm_conv": lambda config: config.get("conv_kernel", 4),
        "ssm_inner": lambda config: config.get("intermediate_size", 2 * config.integer("hidden_size")),
        "ssm_state": lambda config: config.get("state_size", 16),
        "ssm_rank": lambda config: time_step_rank(config, "time_step_rank"),
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
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
    model_types=("falcon_mamba",),
    defaults={**MAMBA.defaults, "tie_word_embeddings": False},
    metadata=_falcon_metadata,
)
"""Falcon Mamba: norms without weights on the time step and on both ends of the state."""

ARCHITECTURES = (MAMBA, FALCON_MAMBA)
