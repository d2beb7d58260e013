"""GLM 4 of 2024 and GLM Edge: GLM 4 without norms after attention and MLP; llama.cpp runs it as `chatglm`."""

from dataclasses import replace

from toolkit.architectures.families.glm4 import GLM4
from toolkit.architectures.parts.base import biases
from toolkit.architectures.parts.checks import all_of, silu
from toolkit.architectures.parts.llama_block import (
    AROUND_THE_BLOCKS,
    FUSED_MLP,
    NORMS,
    PROJECTIONS,
    QKV,
    computed_head_dim,
)
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError


def _check_heads(config: ModelConfig) -> None:
    computed = computed_head_dim(config)
    if config.integer("head_dim") != computed:
        raise ConfigError(
            f"config.json: head_dim is {config.integer('head_dim')}, but llama.cpp runs this architecture with "
            f"hidden_size / num_attention_heads = {computed} only"
        )


GLM = replace(
    GLM4,
    name="chatglm",
    hf_classes=("GlmForCausalLM",),
    compared=frozenset({"GlmForCausalLM"}),
    model_types=("glm",),
    tensors=AROUND_THE_BLOCKS + NORMS + PROJECTIONS + biases(QKV, "attention_bias") + FUSED_MLP,
    unwritten=frozenset({"attention.key_length", "attention.value_length"}),
    check=all_of(silu, _check_heads),
    rope_types=("default",),
)

ARCHITECTURES = (GLM,)
