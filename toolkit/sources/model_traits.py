"""What mixtures of quantization types depend on, told from a config."""

from toolkit.architectures.parts.base import Architecture
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.quant_profile import ModelTraits


def model_traits(architecture: Architecture, config: ModelConfig) -> ModelTraits:
    """Return the traits of a model with this config."""
    return ModelTraits(
        architecture=architecture.name,
        n_layer=architecture.block_count(config),
        n_head=_count(config, "num_attention_heads"),
        n_head_kv=_count(config, "num_key_value_heads") or _count(config, "num_attention_heads"),
        n_expert=_count(config, "num_local_experts"),
    )


def _count(config: ModelConfig, key: str) -> int:
    return config.integer(key) if config.get(key) else 0
