"""Qwen's gated delta net: linear attention in most layers, full attention in some, and layers that predict further tokens."""

import re
from dataclasses import replace

from toolkit.architectures.parts.base import Rules, bare_block, block, retargeted, transformed
from toolkit.architectures.parts.llama_block import AROUND_THE_BLOCKS, HEAD_NORMS, NORMS, K, O, Q, V
from toolkit.architectures.parts.prediction import SHARING_NEXT_TOKENS, blocks, prediction_layers
from toolkit.architectures.parts.rope import rotary_metadata
from toolkit.architectures.parts.transforms import negative_exponential, plus_one, squeeze
from toolkit.checkpoint.model_config import Derived, ModelConfig
from toolkit.errors import ConfigError
from toolkit.gguf.format import Metadata, ValueType, array, uint32

KEYS, VALUES = "linear_num_key_heads*linear_key_head_dim", "linear_num_value_heads*linear_value_head_dim"
QKV = f"2*{KEYS}+{VALUES}"

AROUND = transformed(AROUND_THE_BLOCKS, plus_one, "norm.weight")
BLOCK_NORMS = transformed(retargeted(NORMS, {"ffn_norm": "post_attention_norm"}), plus_one, "norm.weight")
GATED_ATTENTION: Rules = (
    replace(Q, shape=("2*q", "embd")),
    K,
    V,
    O,
    *transformed(HEAD_NORMS, plus_one, "norm.weight"),
)
STATES = (
    bare_block("linear_attn.A_log", "ssm_a", "linear_num_value_heads", transform=negative_exponential),
    bare_block("linear_attn.dt_bias", "ssm_dt.bias", "linear_num_value_heads"),
    block("linear_attn.conv1d", "ssm_conv1d", QKV, "1", "linear_conv_kernel_dim", transform=squeeze),
    block("linear_attn.norm", "ssm_norm", "linear_value_head_dim"),
    block("linear_attn.out_proj", "ssm_out", "embd", VALUES),
)
PREDICTION = transformed(SHARING_NEXT_TOKENS, plus_one, "norm.weight")
_HEAD_PARTS = {
    "fc": "eh_proj",
    "pre_fc_norm_embedding": "enorm",
    "pre_fc_norm_hidden": "hnorm",
    "norm": "shared_head.norm",
}
_HEAD_LAYER, _HEAD_PART = re.compile(r"mtp\.layers\.(\d+)\.(.*)"), re.compile(r"mtp\.(\w+)\.(\w+)")


def head_as_block(name: str, config: ModelConfig) -> str:
    """Return `mtp.…` names as those of blocks after the hidden layers."""
    first = config.integer("num_hidden_layers")
    layer, part = _HEAD_LAYER.fullmatch(name), _HEAD_PART.fullmatch(name)
    if layer:
        return f"model.layers.{first + int(layer[1])}.{layer[2]}"
    if part and part[1] in _HEAD_PARTS:
        return f"model.layers.{first}.{_HEAD_PARTS[part[1]]}.{part[2]}"
    return name


def is_linear(config: ModelConfig, layer: int) -> bool:
    """Tell whether a layer's attention is linear; that of layers which predict further tokens is full."""
    types = config.text_list("layer_types")
    return layer < len(types) and types[layer] == "linear_attention"


def linear_heads(config: ModelConfig) -> tuple[int, int]:
    """Return the numbers of key and of value heads.

    Raises ConfigError if the value heads cannot be shared out among the key heads.
    """
    keys, values = config.integer("linear_num_key_heads"), config.integer("linear_num_value_heads")
    if values % keys:
        raise ConfigError(
            f"config.json: linear_num_value_heads is {values}, expected a multiple of linear_num_key_heads, which is {keys}"
        )
    return keys, values


def _layer_types(config: ModelConfig) -> list[str]:
    """Return the kinds of layers that an interval means."""
    interval, n_layer = config.integer("full_attention_interval"), config.integer("num_hidden_layers")
    return ["linear_attention" if (layer + 1) % interval else "full_attention" for layer in range(n_layer)]


LINEAR_DEFAULTS = {
    "partial_rotary_factor": 0.25,
    "full_attention_interval": 4,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
}
"""what both classes of Qwen fill in"""
LINEAR_DERIVED: dict[str, Derived] = {"layer_types": _layer_types}


def linear_metadata(config: ModelConfig) -> Metadata:
    """Return the sizes of linear attention, and where it stands."""
    value_heads = config.integer("linear_num_value_heads")
    metadata = rotary_metadata(config) | {
        "ssm.conv_kernel": uint32(config.integer("linear_conv_kernel_dim")),
        "ssm.state_size": uint32(config.integer("linear_key_head_dim")),
        "ssm.group_count": uint32(config.integer("linear_num_key_heads")),
        "ssm.time_step_rank": uint32(value_heads),
        "ssm.inner_size": uint32(config.integer("linear_value_head_dim") * value_heads),
        "attention.recurrent_layers": array(
            ValueType.BOOL, (is_linear(config, layer) for layer in range(blocks(config)))
        ),
        "full_attention_interval": uint32(config.integer("full_attention_interval")),
    }
    count = prediction_layers(config)
    return metadata | ({"nextn_predict_layers": uint32(count)} if count else {})
