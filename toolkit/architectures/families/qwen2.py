"""Qwen 2 and 2.5: Llama with biases on Q, K and V, and rope over split halves."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import no_generated_tensors, no_metadata
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, ATTENTION, GATED_MLP, QKV_BIAS

QWEN2 = replace(
    LLAMA,
    name="qwen2",
    hf_classes=("Qwen2ForCausalLM", "Qwen2Model", "DotsOCRForCausalLM"),
    compared=frozenset({"Qwen2ForCausalLM", "DotsOCRForCausalLM"}),
    model_types=("qwen2",),
    tensors=AROUND_THE_BLOCKS + ATTENTION + QKV_BIAS + GATED_MLP,
    class_defaults={
        "num_key_value_heads": 32,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    metadata=no_metadata,
    generated_tensors=no_generated_tensors,
    check=silu,
    rope_types=("default", "linear", "yarn"),
    vocabularies=("sentencepiece", "bpe"),
    pools=True,
)

ARCHITECTURES = (QWEN2,)
