"""MiniCPM 1 and 2: Llama with scales on embedding, depth and logits."""

import math
from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.dimensions import head_dim
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, ATTENTION, DEFAULTS, GATED_MLP, with_rope_order
from toolkit.architectures.parts.rope import LONGROPE, longrope_factors
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, float32


def _metadata(config: ModelConfig) -> Metadata:
    depth = config.number("scale_depth") / math.sqrt(config.integer("num_hidden_layers"))
    return {
        "embedding_scale": float32(config.number("scale_emb")),
        "residual_scale": float32(depth),
        "logit_scale": float32(config.integer("hidden_size") / config.positive_number("dim_model_base")),
    }


MINICPM = replace(
    LLAMA,
    name="minicpm",
    hf_classes=("MiniCPMForCausalLM",),
    compared=frozenset({"MiniCPMForCausalLM"}),
    model_types=("minicpm",),
    tensors=AROUND_THE_BLOCKS + with_rope_order(ATTENTION) + GATED_MLP,
    class_defaults=DEFAULTS | {"tie_word_embeddings": True},
    metadata=_metadata,
    generated_tensors=lambda config: longrope_factors(config, head_dim(config)),
    rope_types=("default", "linear", *LONGROPE),
)

ARCHITECTURES = (MINICPM,)
