"""State space models: the mixers of Mamba 1 and 2, alone or in models that also attend."""

import math

from toolkit.architectures.parts.base import Rules, bare_block, block, rule
from toolkit.architectures.parts.hybrids import UNBOUNDED_CONTEXT
from toolkit.architectures.parts.llama_block import OUTPUT
from toolkit.architectures.parts.row_sources import Reshaped
from toolkit.architectures.parts.transforms import column, compose, negative_exponential, squeeze
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32
from toolkit.gguf.rows import RowSource

AROUND_THE_STATES = (
    rule("model.embeddings", "token_embd", "vocab", "embd"),
    rule("model.norm_f", "output_norm", "embd"),
    OUTPUT,
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


CHANNELS = "ssm_inner+2*ssm_groups*ssm_state"
_MINUS_EXP_COLUMN = compose(negative_exponential, column)


def norm_of_groups(source: RowSource, config: ModelConfig) -> RowSource:
    """Return a row for every group."""
    groups = config.integer("ssm_groups")
    return Reshaped(source, (groups, source.shape[0] // groups))


def heads_of_states(module: str) -> Rules:
    """Return the rules of a Mamba 2 mixer without its norm; lengths are keys that the family has or derives."""
    return (
        bare_block(f"{module}.A_log", "ssm_a", "ssm_rank", transform=_MINUS_EXP_COLUMN),
        bare_block(f"{module}.D", "ssm_d", "ssm_rank", transform=column),
        bare_block(f"{module}.dt_bias", "ssm_dt.bias", "ssm_rank"),
        block(f"{module}.conv1d", "ssm_conv1d", CHANNELS, "1", "ssm_conv", transform=squeeze),
        block(f"{module}.conv1d.bias", "ssm_conv1d.bias", CHANNELS),
        block(f"{module}.in_proj", "ssm_in", f"ssm_inner+{CHANNELS}+ssm_rank", "embd"),
        block(f"{module}.out_proj", "ssm_out", "embd", "ssm_inner"),
    )


def gated_norm(module: str) -> Rules:
    """Return the rule of the norm behind the gate."""
    return (block(f"{module}.norm", "ssm_norm", "ssm_inner", transform=norm_of_groups),)


def heads_metadata(config: ModelConfig) -> Metadata:
    """Return the sizes of the state spaces; `time_step_rank` is the number of heads."""
    return state_space_metadata(config) | {"ssm.group_count": uint32(config.integer("ssm_groups"))}


HYBRID_ALIASES = {
    "ssm_rank": "mamba_n_heads",
    "ssm_groups": "mamba_n_groups",
    "ssm_state": "mamba_d_state",
    "ssm_conv": "mamba_d_conv",
}
"""the lengths of the mixer as models that also attend spell them"""
HYBRID_DEFAULTS = {"mamba_n_heads": 128, "mamba_n_groups": 1, "mamba_d_state": 256, "mamba_d_conv": 4}
