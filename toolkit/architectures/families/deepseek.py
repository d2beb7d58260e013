"""DeepSeek MoE of the first generation: Llama's attention, experts and shared ones after a dense block."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import no_generated_tensors
from toolkit.architectures.parts.checks import all_of, setting, silu
from toolkit.architectures.parts.dimensions import head_dim
from toolkit.architectures.parts.experts import MIXTURE, dense_first
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, ATTENTION, DEFAULTS, with_rope_order
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, float32, string, uint32


def _metadata(config: ModelConfig) -> Metadata:
    return {
        "rope.dimension_count": uint32(head_dim(config)),
        "rope.scaling.type": string("none"),
        "leading_dense_block_count": uint32(config.integer("first_k_dense_replace", least=0)),
        "vocab_size": uint32(config.integer("vocab_size")),
        "expert_feed_forward_length": uint32(config.integer("moe_intermediate_size")),
        "expert_weights_scale": float32(1.0),
        "expert_shared_count": uint32(config.integer("n_shared_experts")),
    }


DEEPSEEK = replace(
    LLAMA,
    name="deepseek",
    hf_classes=("DeepseekForCausalLM",),
    compared=frozenset({"DeepseekForCausalLM"}),
    model_types=("deepseek",),
    tensors=AROUND_THE_BLOCKS + with_rope_order(ATTENTION) + dense_first(MIXTURE),
    class_defaults=DEFAULTS | {"first_k_dense_replace": 0},
    metadata=_metadata,
    generated_tensors=no_generated_tensors,
    check=all_of(
        silu, setting("moe_layer_freq", 1), setting("attention_bias", False), setting("norm_topk_prob", False)
    ),
    rope_types=("default",),
    vocabularies=("sentencepiece", "bpe"),
)

ARCHITECTURES = (DEEPSEEK,)
