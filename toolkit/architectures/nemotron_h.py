"""Nemotron H: one sub-layer a block, Mamba 2, attention or an MLP with squared ReLU, in a pattern of letters."""

from toolkit.architectures.base import Architecture, LayerChoice, Naming, block, in_layers
from toolkit.architectures.checks import all_of, setting
from toolkit.architectures.dimensions import head_dim
from toolkit.architectures.hybrids import UNBOUNDED_CONTEXT, per_layer
from toolkit.architectures.llama import with_rope_order
from toolkit.architectures.mamba import AROUND
from toolkit.architectures.mamba2 import gated_norm, heads_metadata, heads_of_states
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, boolean, float32, uint32

STATES, ATTENTION, MLP = "M", "*", "-"
PROJECTIONS = (
    block("mixer.q_proj", "attn_q", "q", "embd"),
    block("mixer.k_proj", "attn_k", "kv", "embd"),
    block("mixer.v_proj", "attn_v", "kv", "embd"),
    block("mixer.o_proj", "attn_output", "embd", "q"),
)
MATRICES = (block("mixer.up_proj", "ffn_up", "ff", "embd"), block("mixer.down_proj", "ffn_down", "embd", "ff"))


def _is(letter: str) -> LayerChoice:
    return lambda config, layer: bool(config["hybrid_override_pattern"][layer] == letter)


def _metadata(config: ModelConfig) -> Metadata:
    pattern = config["hybrid_override_pattern"]
    head = uint32(head_dim(config))
    return heads_metadata(config) | {
        "vocab_size": uint32(config.integer("vocab_size")),
        "context_length": uint32(UNBOUNDED_CONTEXT),
        "feed_forward_length": per_layer(config.integer("intermediate_size"), (kind == MLP for kind in pattern)),
        "attention.head_count_kv": per_layer(
            config.integer("num_key_value_heads"), (kind == ATTENTION for kind in pattern)
        ),
        "attention.key_length": head,
        "attention.value_length": head,
        "attention.layer_norm_epsilon": float32(config.number("rms_norm_eps")),
        "rope.dimension_count": head,
        "rope.scaling.finetuned": boolean(False),
    }


NEMOTRON_H = Architecture(
    name="nemotron_h",
    hf_classes=("NemotronHForCausalLM",),
    model_types=("nemotron_h",),
    tensors=(
        *AROUND,
        block("norm", "attn_norm", "embd"),
        *in_layers(heads_of_states("mixer") + gated_norm("mixer"), _is(STATES)),
        *in_layers(with_rope_order(PROJECTIONS), _is(ATTENTION)),
        *in_layers(MATRICES, _is(MLP)),
    ),
    defaults={
        "head_dim": lambda config: config.get("attention_head_dim"),
        "num_key_value_heads": lambda config: config["num_attention_heads"],
        "max_position_embeddings": UNBOUNDED_CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "ssm_rank": lambda config: config["mamba_num_heads"],
        "ssm_inner": lambda config: config.integer("mamba_num_heads") * config.integer("mamba_head_dim"),
        "ssm_groups": lambda config: config["n_groups"],
        "ssm_state": lambda config: config["ssm_state_size"],
        "ssm_conv": lambda config: config["conv_kernel"],
    },
    metadata=_metadata,
    check=all_of(setting("mlp_hidden_act", "relu2"), setting("mamba_hidden_act", "silu")),
    rope_types=("default",),
    naming=Naming(embedding="embeddings"),
)

ARCHITECTURES = (NEMOTRON_H,)
