"""DeepSeek V2: latent attention (MLA), experts in groups, one or more that every token passes."""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.experts import CORRECTED_MIXTURE, dense_first
from toolkit.architectures.parts.latent_attention import MLA, latent_metadata, yarn_metadata
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, DEFAULTS, NORMS
from toolkit.architectures.parts.prediction import DROPPED, aside
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, boolean, float32, uint32


def experts_metadata(config: ModelConfig) -> Metadata:
    """Return the keys of DeepSeek's mixtures."""
    metadata: Metadata = {
        "leading_dense_block_count": uint32(config.integer("first_k_dense_replace", least=0)),
        "expert_feed_forward_length": uint32(config.integer("moe_intermediate_size")),
        "expert_shared_count": uint32(config.integer("n_shared_experts", 0, least=0)),
        "expert_weights_scale": float32(config.number("routed_scaling_factor")),
    }
    return metadata | ({"expert_weights_norm": boolean(True)} if config.flag("norm_topk_prob", False) else {})


def deepseek_metadata(config: ModelConfig) -> Metadata:
    """Return the keys of attention, experts and yarn's scale of attention."""
    return latent_metadata(config) | experts_metadata(config) | yarn_metadata(config)


def _corrects_choice(config: ModelConfig) -> bool:
    return config.text("topk_method", "") == "noaux_tc"


_MIXTURE = tuple(
    replace(tensor, required=_corrects_choice) if "e_score" in tensor.source else tensor for tensor in CORRECTED_MIXTURE
)

DEEPSEEK2 = replace(
    LLAMA,
    name="deepseek2",
    hf_classes=("DeepseekV2ForCausalLM",),
    compared=frozenset({"DeepseekV2ForCausalLM"}),
    model_types=("deepseek_v2",),
    tensors=AROUND_THE_BLOCKS + NORMS + MLA + dense_first(_MIXTURE),
    class_defaults=DEFAULTS
    | {
        "first_k_dense_replace": 0,
        "norm_topk_prob": False,
        "routed_scaling_factor": 1.0,
        "num_local_experts": 64,
        "n_shared_experts": 2,
    },
    metadata=deepseek_metadata,
    unwritten=frozenset({"attention.key_length", "attention.value_length"}),
    check=silu,
    rope_types=("default", "linear", "yarn"),
    vocabularies=("sentencepiece", "bpe", "kimi_tiktoken"),
    renamed=aside,
    dropped=LLAMA.dropped | DROPPED,
)

ARCHITECTURES = (DEEPSEEK2,)
