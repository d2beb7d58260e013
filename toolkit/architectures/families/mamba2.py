"""Mamba 2: heads that share a decay, groups that share B and C, a gated norm."""

from toolkit.architectures.families.mamba import AROUND, NO_ATTENTION, state_space_metadata, unbounded
from toolkit.architectures.parts.base import Architecture, Naming, Rules, bare_block, block
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.row_sources import Reshaped
from toolkit.architectures.parts.transforms import column, compose, negative_exponential, squeeze
from toolkit.checkpoint.model_config import Default, ModelConfig
from toolkit.gguf.format import Metadata, uint32
from toolkit.gguf.rows import RowSource

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


HYBRID_DEFAULTS: dict[str, Default] = {
    "ssm_rank": lambda config: config.get("mamba_n_heads", 128),
    "ssm_groups": lambda config: config.get("mamba_n_groups", 1),
    "ssm_state": lambda config: config.get("mamba_d_state", 256),
    "ssm_conv": lambda config: config.get("mamba_d_conv", 4),
}
"""the lengths of the mixer as models that also attend spell them"""

MAMBA2 = Architecture(
    name="mamba2",
    hf_classes=("Mamba2ForCausalLM",),
    model_types=("mamba2",),
    tensors=(*AROUND, block("norm", "attn_norm", "embd"), *heads_of_states("mixer"), *gated_norm("mixer")),
    defaults={
        "ssm_conv": lambda config: config.get("conv_kernel", 4),
        "ssm_inner": lambda config: config.get("expand", 2) * config.integer("hidden_size"),
        "ssm_state": lambda config: config.get("state_size", 128),
        "ssm_rank": lambda config: config.integer("ssm_inner") // config.get("head_dim", 64),
        "ssm_groups": lambda config: config.get("n_groups", 1),
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    },
    metadata=lambda config: unbounded(config) | heads_metadata(config),
    unwritten=NO_ATTENTION,
    check=silu,
    naming=Naming(embedding="embeddings"),
)

ARCHITECTURES = (MAMBA2,)
