"""Command R: attention and MLP side by side behind one LayerNorm without bias, scaled logits, the embedding as the output."""

from dataclasses import replace

from toolkit.architectures.parts.base import Architecture, block
from toolkit.architectures.parts.checks import all_of, silu, tied
from toolkit.architectures.parts.llama_block import (
    ATTN_NORM,
    COMPUTED_BUFFERS,
    DEFAULTS,
    DERIVED,
    GATED_MLP,
    OUTPUT_NORM,
    PROJECTIONS,
    TOKEN_EMBD,
)
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, float32, string, uint32

HEAD_NORMS = tuple(
    replace(tensor, required="use_qk_norm")
    for tensor in (
        block("self_attn.q_norm", "attn_q_norm", "num_attention_heads", "head"),
        block("self_attn.k_norm", "attn_k_norm", "num_key_value_heads", "head"),
    )
)
PARALLEL_BLOCK = (TOKEN_EMBD, OUTPUT_NORM, ATTN_NORM, *PROJECTIONS, *GATED_MLP)


def scaling_metadata(config: ModelConfig) -> Metadata:
    """Return the scale of the logits, and that rope is not scaled."""
    return {"logit_scale": float32(config.number("logit_scale")), "rope.scaling.type": string("none")}


def _metadata(config: ModelConfig) -> Metadata:
    # model_max_length is what the model was trained for; max_position_embeddings bounds transformers' buffers
    context = config.integer("model_max_length", config.integer("max_position_embeddings"))
    return scaling_metadata(config) | {"context_length": uint32(context)}


COHERE = Architecture(
    name="command-r",
    hf_classes=("CohereForCausalLM",),
    compared=frozenset({"CohereForCausalLM"}),
    model_types=("cohere",),
    tensors=PARALLEL_BLOCK + HEAD_NORMS,
    class_defaults=DEFAULTS
    | {
        "max_position_embeddings": 8192,
        "layer_norm_eps": 1e-5,
        "logit_scale": 0.0625,
        "tie_word_embeddings": True,
        "use_qk_norm": False,
    },
    derived=DERIVED,
    metadata=_metadata,
    norm="layer_norm_eps",
    check=all_of(silu, tied),
    rope_types=("default",),
    dropped=COMPUTED_BUFFERS,
)

ARCHITECTURES = (COHERE,)
