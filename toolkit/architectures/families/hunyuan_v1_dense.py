"""Hunyuan dense: Qwen 3's block with norms after rope, and a rope base stretched by `alpha`."""

from dataclasses import replace

from toolkit.architectures.families.qwen2 import QWEN2
from toolkit.architectures.parts.base import block
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.dimensions import head_dim
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, ATTENTION, ATTENTION_BIAS, DEFAULTS, GATED_MLP
from toolkit.architectures.parts.rope import global_rope, rope_theta
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError
from toolkit.gguf.format import Metadata, float32, string, uint32

STRETCHED = ("dynamic", "xdrope")
DYNAMIC_CONTEXT = 262144
_KNOWN_CONTEXTS = (32768, DYNAMIC_CONTEXT)

HEAD_NORMS = (
    block("self_attn.query_layernorm", "attn_q_norm", "head"),
    block("self_attn.key_layernorm", "attn_k_norm", "head"),
)


def stretched_rope(config: ModelConfig) -> Metadata:
    """Return the base of NTK scaling, base * alpha^(d / (d - 2)), and the context that it was made for."""
    rope, length = global_rope(config), head_dim(config)
    if rope.text("rope_type") not in STRETCHED:
        return {}
    alpha = rope.number("alpha", 50.0)
    metadata: Metadata = {
        "rope.freq_base": float32(rope_theta(config) * alpha ** (length / (length - 2))),
        "rope.scaling.type": string("none"),
        "rope.scaling.factor": float32(1),
    }
    if rope.text("rope_type") == "dynamic":
        metadata["rope.scaling.original_context_length"] = uint32(DYNAMIC_CONTEXT)
        metadata["context_length"] = uint32(DYNAMIC_CONTEXT)
    return metadata


def _check(config: ModelConfig) -> None:
    silu(config)
    dynamic = global_rope(config).text("rope_type") == "dynamic"
    context = config.integer("max_position_embeddings")
    if dynamic and (rope_theta(config) != 10000.0 or context not in _KNOWN_CONTEXTS):
        raise ConfigError(
            f"config.json: dynamic rope with a base of {rope_theta(config)} and {context} positions; "
            "llama.cpp knows it for a base of 10000 and 32768 or 262144 positions"
        )


HUNYUAN = replace(
    QWEN2,
    name="hunyuan-dense",
    hf_classes=("HunYuanDenseV1ForCausalLM",),
    compared=frozenset({"HunYuanDenseV1ForCausalLM"}),
    model_types=("hunyuan_v1_dense",),
    tensors=AROUND_THE_BLOCKS + ATTENTION + ATTENTION_BIAS + HEAD_NORMS + GATED_MLP,
    class_defaults=DEFAULTS | {"rms_norm_eps": 1e-5},
    metadata=stretched_rope,
    check=_check,
    rope_types=("default", *STRETCHED),
)

ARCHITECTURES = (HUNYUAN,)
