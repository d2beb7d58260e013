"""Command R7B and A: Command R with windowed layers that have rope, and every fourth layer without window and rope."""

from dataclasses import replace

from toolkit.architectures.families.cohere import COHERE, PARALLEL_BLOCK, scaling_metadata
from toolkit.architectures.parts.llama_block import DERIVED, computed_head_dim
from toolkit.architectures.parts.rope import rotary_metadata
from toolkit.architectures.parts.windows import window_every
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32


def _metadata(config: ModelConfig) -> Metadata:
    return (
        scaling_metadata(config)
        | rotary_metadata(config)
        | window_every(config, 4)
        | {"vocab_size": uint32(config.integer("vocab_size"))}
    )


COHERE2 = replace(
    COHERE,
    name="cohere2",
    hf_classes=("Cohere2ForCausalLM",),
    compared=frozenset({"Cohere2ForCausalLM"}),
    model_types=("cohere2",),
    tensors=PARALLEL_BLOCK,
    class_defaults=COHERE.class_defaults
    | {
        "sliding_window": 4096,
    },
    derived=DERIVED | {"head_dim": computed_head_dim},
    metadata=_metadata,
)

ARCHITECTURES = (COHERE2,)
