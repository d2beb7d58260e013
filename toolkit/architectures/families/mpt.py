"""MPT: ALiBi, clamped QKV, no biases."""

from functools import partial

from toolkit.architectures.parts.base import Architecture, Naming, block, rule
from toolkit.architectures.parts.checks import setting
from toolkit.architectures.parts.llama_block import OUTPUT
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError
from toolkit.gguf.format import Metadata, float32, uint32

_b = partial(block, within="blocks")
TENSORS = (
    rule("model.wte", "token_embd", "vocab", "embd"),
    rule("model.norm_f", "output_norm", "embd"),
    OUTPUT,
    _b("norm_1", "attn_norm", "embd"),
    _b("attn.Wqkv", "attn_qkv", "embd+2*kv", "embd"),
    _b("attn.out_proj", "attn_output", "embd", "embd"),
    _b("norm_2", "ffn_norm", "embd"),
    _b("ffn.up_proj", "ffn_up", "ff", "embd"),
    _b("ffn.down_proj", "ffn_down", "embd", "ff"),
)


def _attention(config: ModelConfig) -> ModelConfig:
    """Return the settings of attention, which have no defaults here.

    Raises ConfigError if there are none.
    """
    if not config.has("attn_config"):
        raise ConfigError("config.json has no attn_config, and there is no default for it")
    return config.section("attn_config")


def _kv_heads(config: ModelConfig) -> int:
    """Return the number of K and V heads, where 0 and none mean as many as of Q."""
    stated = _attention(config).integer("kv_n_heads", 0, least=0)
    return stated or config.integer("num_attention_heads")


def _metadata(config: ModelConfig) -> Metadata:
    attention = _attention(config)
    bias = attention.number("alibi_bias_max", 8.0) if attention.flag("alibi", False) else 0.0
    metadata: Metadata = {"attention.max_alibi_bias": float32(bias)}
    if attention.has("clip_qkv"):
        metadata["attention.clamp_kqv"] = float32(attention.number("clip_qkv"))
    if attention.get("kv_n_heads"):
        metadata["attention.head_count_kv"] = uint32(_kv_heads(config))
    return metadata


MPT = Architecture(
    name="mpt",
    hf_classes=("MPTForCausalLM", "MptForCausalLM"),
    compared=frozenset({"MPTForCausalLM"}),
    model_types=("mpt",),
    tensors=TENSORS,
    class_defaults={
        "expansion_ratio": 4,
        "layer_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    },
    derived={
        "intermediate_size": lambda config: config.integer("expansion_ratio") * config.integer("hidden_size"),
        "num_key_value_heads": _kv_heads,
    },
    metadata=_metadata,
    unwritten=frozenset({"rope", "attention.head_count_kv"}),
    norm="layer_norm_eps",
    check=setting("no_bias", True),
    naming=Naming(embedding="wte", blocks="blocks"),
)

ARCHITECTURES = (MPT,)
