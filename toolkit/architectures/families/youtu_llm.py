"""Youtu-LLM: DeepSeek's latent attention with an ordinary MLP in every layer; llama.cpp runs it as DeepSeek 2 without experts."""

from dataclasses import replace

from toolkit.architectures.families.deepseek_v2 import DEEPSEEK2
from toolkit.architectures.parts.latent_attention import MLA, latent_metadata, yarn_metadata
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, DEFAULTS, GATED_MLP, NORMS
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, uint32


def _metadata(config: ModelConfig) -> Metadata:
    return (
        latent_metadata(config)
        | yarn_metadata(config)
        | {
            "leading_dense_block_count": uint32(config.integer("num_hidden_layers")),
            "expert_feed_forward_length": uint32(config.integer("intermediate_size")),
            "expert_shared_count": uint32(0),
        }
    )


YOUTU = replace(
    DEEPSEEK2,
    hf_classes=("YoutuForCausalLM",),
    compared=frozenset({"YoutuForCausalLM"}),
    model_types=("youtu_llm",),
    tensors=AROUND_THE_BLOCKS + NORMS + MLA + GATED_MLP,
    class_defaults=DEFAULTS,
    metadata=_metadata,
    vocabularies=("bpe",),
)

ARCHITECTURES = (YOUTU,)
