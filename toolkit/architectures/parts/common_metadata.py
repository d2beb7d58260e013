"""The metadata that llama.cpp expects of (nearly) every architecture.

Source: `TextModel.set_gguf_parameters` in conversion/base.py of llama.cpp (commit 0c1e570).
"""

from toolkit.architectures.parts.base import Architecture
from toolkit.architectures.parts.rope import rope_metadata
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError
from toolkit.gguf.format import Metadata, MetadataValue, float32, uint32

_REQUIRED = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
}
_OPTIONAL = {
    "expert_count": "num_local_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_group_count": "n_group",
    "expert_group_used_count": "topk_group",
    "attention.key_length": "head_dim",
    "attention.value_length": "head_dim",
}
_EPSILONS = {"rms_norm_eps": "attention.layer_norm_rms_epsilon", "layer_norm_eps": "attention.layer_norm_epsilon"}
GATING_FUNCTIONS = {"softmax": 1, "sigmoid": 2, "sqrtsoftplus": 4}


def architecture_metadata(architecture: Architecture, config: ModelConfig) -> Metadata:
    """Return all `ARCHITECTURE.*` keys of a model."""
    own = _prefixed(architecture.name, _common(architecture, config) | architecture.metadata(config))
    if "rope" in architecture.unwritten:
        return own
    left_out = {f"{architecture.name}.{key}" for key in architecture.unwritten}
    return {key: value for key, value in rope_metadata(config, architecture.name).items() if key not in left_out} | own


def _prefixed(name: str, metadata: Metadata) -> Metadata:
    return {key if key.startswith(ABSOLUTE) else f"{name}.{key}": value for key, value in metadata.items()}


ABSOLUTE = ("xielu.", "general.", "tokenizer.")
"""keys that stand without an architecture's name"""


def _common(architecture: Architecture, config: ModelConfig) -> Metadata:
    left_out = architecture.unwritten
    metadata: Metadata = {"block_count": uint32(architecture.block_count(config))}
    metadata |= {name: uint32(config.integer(key)) for name, key in _REQUIRED.items() if name not in left_out}
    metadata |= {
        name: uint32(config.integer(key) if config[key] else 0)
        for name, key in _OPTIONAL.items()
        if name not in left_out and config.has(key)
    }
    return metadata | _epsilon(architecture, config) | _gating(architecture, config)


def _epsilon(architecture: Architecture, config: ModelConfig) -> Metadata:
    name = _EPSILONS[architecture.norm]
    return {} if name in architecture.unwritten else {name: float32(config.number(architecture.norm))}


def _gating(architecture: Architecture, config: ModelConfig) -> Metadata:
    if not config.has("scoring_func") or "expert_gating_func" in architecture.unwritten:
        return {}
    return {"expert_gating_func": gating_function(config.text("scoring_func"))}


def gating_function(function: str) -> MetadataValue:
    """Return llama.cpp's number for what turns router logits into weights.

    Raises ConfigError if it knows no such function.
    """
    if function not in GATING_FUNCTIONS:
        raise ConfigError(f"config.json: router function {function!r}; llama.cpp knows {', '.join(GATING_FUNCTIONS)}")
    return uint32(GATING_FUNCTIONS[function])


def deepstack_metadata(config: ModelConfig) -> Metadata:
    """Return the number of layers that take image features."""
    return {
        "n_deepstack_layers": uint32(len(config.section("vision_config").integer_list("deepstack_visual_indexes", [])))
    }
