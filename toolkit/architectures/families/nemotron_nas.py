"""Llama Nemotron Super, Ultra and 51B (DeciLM): Llama whose layers were searched one by one.

A layer has as many K and V heads and as wide an MLP as its entry in `block_configs` says; its attention may be one
matrix, or missing, as may its MLP. So the rules are made for a config.
"""

from dataclasses import replace

from toolkit.architectures.families.llama import LLAMA
from toolkit.architectures.parts.base import Architecture, Rules, Transform, block, no_variant, resized
from toolkit.architectures.parts.checks import silu
from toolkit.architectures.parts.dimensions import head_dim
from toolkit.architectures.parts.llama_block import (
    AROUND_THE_BLOCKS,
    ATTN_NORM,
    DEFAULTS,
    FFN_NORM,
    GATED_MLP,
    Q_ROPE,
    K,
    O,
    Q,
    V,
    llama_metadata,
)
from toolkit.architectures.parts.rope import rope_theta
from toolkit.architectures.parts.transforms import interleaved
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError
from toolkit.gguf.format import Metadata, ValueType, array, float32, uint32

_MULTIPLE = 256
"""of which the widths of MLPs are"""
_LINEAR = (block("self_attn.linear_attn", "attn_output", "embd", "embd"),)


def _kv_heads(layer: ModelConfig, config: ModelConfig) -> int:
    attention = layer.section("attention")
    if not attention.has("n_heads_in_group"):
        return 0
    return config.integer("num_attention_heads") // attention.integer("n_heads_in_group")


def _heads(layer: ModelConfig, config: ModelConfig) -> int:
    attention = layer.section("attention")
    attends = attention.has("n_heads_in_group") or attention.flag("replace_with_linear", False)
    return config.integer("num_attention_heads") if attends else 0


def _width(layer: ModelConfig, config: ModelConfig) -> int:
    width = int(2 * layer.section("ffn").number("ffn_mult", 0.0) * config.integer("hidden_size") / 3)
    return -(-width // _MULTIPLE) * _MULTIPLE


def _layers(config: ModelConfig) -> list[ModelConfig]:
    """Return the description of every layer.

    Raises ConfigError if it is not complete.
    """
    described = config.section_list("block_configs")
    if len(described) != config.integer("num_hidden_layers") or not all(
        layer.has(part) for layer in described for part in ("attention", "ffn")
    ):
        raise ConfigError("config.json: block_configs does not describe attention and ffn of every layer")
    return described


def _metadata(config: ModelConfig) -> Metadata:
    layers, length = _layers(config), uint32(head_dim(config))
    return llama_metadata(config) | {
        "attention.head_count": array(ValueType.INT32, (_heads(layer, config) for layer in layers)),
        "attention.head_count_kv": array(ValueType.INT32, (_kv_heads(layer, config) for layer in layers)),
        "feed_forward_length": array(ValueType.INT32, (_width(layer, config) for layer in layers)),
        "attention.key_length": length,
        "attention.value_length": length,
        "rope.freq_base": float32(rope_theta(config)),
    }


def _layer_rules(number: int, layer: ModelConfig, config: ModelConfig) -> Rules:
    kv_heads, width = _kv_heads(layer, config), _width(layer, config)
    k_rope: Transform = lambda source, _config: interleaved(source, kv_heads)  # noqa: E731
    attention = (replace(Q, transform=Q_ROPE), replace(K, transform=k_rope), V, O) if kv_heads else ()
    linear = _LINEAR if not kv_heads and _heads(layer, config) else ()
    rules = (
        *attention,
        *linear,
        *((ATTN_NORM,) if attention or linear else ()),
        *((FFN_NORM, *GATED_MLP) if width else ()),
    )
    return tuple(
        replace(
            tensor,
            source=tensor.source.replace("{layer}", str(number)),
            target=tensor.target.replace("{layer}", str(number)),
        )
        for tensor in resized(rules, {"kv": f"{kv_heads}*head", "ff": str(width)})
    )


def _searched(config: ModelConfig) -> Architecture | None:
    if not config.has("block_configs"):
        return None
    full = DECI.fill_in(config)
    rules = tuple(tensor for number, layer in enumerate(_layers(full)) for tensor in _layer_rules(number, layer, full))
    return replace(DECI, tensors=AROUND_THE_BLOCKS + rules, metadata=_metadata, check=silu, variant=no_variant)


def _refuse(_config: ModelConfig) -> None:
    raise ConfigError("config.json has no block_configs; DeciLM without them is not supported")


DECI = replace(
    LLAMA,
    name="deci",
    hf_classes=("DeciLMForCausalLM",),
    compared=frozenset({"DeciLMForCausalLM"}),
    model_types=("nemotron-nas",),
    tensors=AROUND_THE_BLOCKS,
    class_defaults=DEFAULTS,
    unwritten=frozenset({"rope", "feed_forward_length", "attention.head_count", "attention.head_count_kv"}),
    check=_refuse,
    rope_types=("default", "llama3"),
    vocabularies=("llama_hf", "bpe"),
    variant=_searched,
)

ARCHITECTURES = (DECI,)
