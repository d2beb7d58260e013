"""Qwen 2 and 2.5: Llama with biases on Q, K and V, and rope over split halves."""

from dataclasses import replace

from toolkit.architectures.base import no_generated_tensors, no_metadata
from toolkit.architectures.checks import silu
from toolkit.architectures.llama import AROUND_THE_BLOCKS, ATTENTION, GATED_MLP, LLAMA, QKV_BIAS
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError


def check_full_attention(config: ModelConfig) -> None:
    """Refuse sliding-window attention, which llama.cpp does not do for Qwen, and foreign activations.

    Raises ConfigError.
    """
    silu(config)
    window, context = config.get("sliding_window"), config.integer("max_position_embeddings")
    if config.get("use_sliding_window", False) and isinstance(window, int) and window < context:
        raise ConfigError(
            f"config.json: use_sliding_window with a window of {window} below the context of {context}; "
            "llama.cpp attends to everything for this architecture and would differ"
        )


QWEN2 = replace(
    LLAMA,
    name="qwen2",
    hf_classes=("Qwen2ForCausalLM", "Qwen2Model", "DotsOCRForCausalLM"),
    model_types=("qwen2",),
    tensors=AROUND_THE_BLOCKS + ATTENTION + QKV_BIAS + GATED_MLP,
    defaults={
        "num_key_value_heads": 32,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    metadata=no_metadata,
    generated_tensors=no_generated_tensors,
    check=check_full_attention,
    rope_types=("default", "linear", "yarn"),
    vocabularies=("sentencepiece", "bpe"),
    pools=True,
)

ARCHITECTURES = (QWEN2,)
