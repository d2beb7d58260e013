"""Phi 3 and 4: Q, K and V fused, gate and up fused, long contexts through factors on the rope frequencies."""

import math

import numpy
from numpy.typing import NDArray

from toolkit.architectures.parts.base import Architecture, block
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.dimensions import head_dim
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, COMPUTED_BUFFERS, DERIVED, FUSED_MLP, NORMS
from toolkit.architectures.parts.rope import LONGROPE, global_rope, longrope_factors, rotary_dimensions, rotary_metadata
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, float32, uint32

FUSED_ATTENTION = (
    block("self_attn.qkv_proj", "attn_qkv", "q+2*kv", "embd"),
    block("self_attn.o_proj", "attn_output", "embd", "q"),
)


def longrope_metadata(config: ModelConfig) -> Metadata:
    """Return the context before scaling, and the factor that scaling puts on attention."""
    rope = global_rope(config)
    context = config.integer("max_position_embeddings")
    original = rope.integer("original_max_position_embeddings", context, least=2)
    metadata: Metadata = {"rope.scaling.original_context_length": uint32(original)}
    if rope.has("long_factor"):
        metadata["rope.scaling.attn_factor"] = float32(_attention_factor(rope.text("rope_type"), context, original))
    return metadata


def _attention_factor(scaling: str, context: int, original: int) -> float:
    scale = context / original
    if scale <= 1.0:
        return 1.0
    if scaling in LONGROPE:
        return math.sqrt(1 + math.log(scale) / math.log(original))
    return 0.1 * math.log(scale) + 1.0


def window_metadata(config: ModelConfig) -> Metadata:
    """Return Phi's window, 0 where there is none."""
    return {"attention.sliding_window": uint32(config.integer("sliding_window", 0, least=0))}


def rope_factors(config: ModelConfig) -> dict[str, NDArray[numpy.float32]]:
    """Return the factors for long and short contexts."""
    return longrope_factors(config, rotary_dimensions(config, head_dim(config)))


def phi3_metadata(config: ModelConfig) -> Metadata:
    """Return the keys that Phi 3's family adds to the common ones."""
    return rotary_metadata(config) | longrope_metadata(config) | window_metadata(config)


PHI3 = Architecture(
    name="phi3",
    hf_classes=("Phi3ForCausalLM", "Phi4ForCausalLMV"),
    compared=frozenset({"Phi3ForCausalLM", "Phi4ForCausalLMV"}),
    model_types=("phi3",),
    tensors=AROUND_THE_BLOCKS + NORMS + FUSED_ATTENTION + FUSED_MLP,
    class_defaults={
        "intermediate_size": 8192,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    derived=DERIVED,
    metadata=phi3_metadata,
    unwritten=frozenset({"rope.scaling.type"}),
    generated_tensors=rope_factors,
    check=silu,
    rope_types=("default", *LONGROPE),
    dropped=COMPUTED_BUFFERS,
)

ARCHITECTURES = (PHI3,)
