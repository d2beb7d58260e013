"""MiniMax M2: experts named as Mixtral's behind a sigmoid router, norms over all heads of Q and of K."""

from dataclasses import replace

from toolkit.architectures.families.qwen2 import QWEN2
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.experts import MIXTRAL_MIXTURE, correction_bias
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, ATTENTION, DEFAULTS, WIDE_NORMS
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32


def _metadata(config: ModelConfig) -> Metadata:
    return {
        "expert_feed_forward_length": uint32(config.integer("intermediate_size")),
        "rope.dimension_count": uint32(config.integer("rotary_dim")),
    }


MINIMAX_M2 = replace(
    QWEN2,
    name="minimax-m2",
    hf_classes=("MiniMaxM2ForCausalLM",),
    compared=frozenset({"MiniMaxM2ForCausalLM"}),
    model_types=("minimax_m2",),
    tensors=AROUND_THE_BLOCKS
    + ATTENTION
    + WIDE_NORMS
    + MIXTRAL_MIXTURE
    + correction_bias("block_sparse_moe.e_score_correction_bias"),
    class_defaults=DEFAULTS,
    metadata=_metadata,
    check=silu,
)

ARCHITECTURES = (MINIMAX_M2,)
