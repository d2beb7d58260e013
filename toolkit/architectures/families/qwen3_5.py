"""Qwen 3.5, dense: gated delta net with projections of their own, rope in sections for text, height and width.

llama.cpp repeats key heads for value heads in turn, the checkpoint keeps the value heads of a key head together: everything
that runs over value heads is reordered.
"""

from dataclasses import replace

import numpy

from toolkit.architectures.families.qwen3 import QWEN3
from toolkit.architectures.parts.base import Naming, bare_block, block, in_layers, other_than
from toolkit.architectures.parts.linear_attention import (
    AROUND,
    BLOCK_NORMS,
    GATED_ATTENTION,
    LINEAR_DEFAULTS,
    LINEAR_DERIVED,
    PREDICTION,
    QKV,
    STATES,
    VALUES,
    head_as_block,
    is_linear,
    linear_heads,
    linear_metadata,
)
from toolkit.architectures.parts.llama_block import GATED_MLP
from toolkit.architectures.parts.prediction import blocks, predicts
from toolkit.architectures.parts.rope import global_rope
from toolkit.architectures.parts.row_sources import Indices, SelectedColumns
from toolkit.architectures.parts.transforms import compose, negative_exponential, regrouped, squeeze
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, ValueType, array
from toolkit.gguf.rows import RowSource

DEFAULT_SECTIONS = (11, 11, 10, 0)


def _in_turn(config: ModelConfig, length: int) -> Indices:
    """Return the order that takes the first value head of every key head, then the second, and so on."""
    key_heads, value_heads = linear_heads(config)
    grouped = numpy.arange(value_heads * length).reshape(key_heads, value_heads // key_heads, length)
    return grouped.transpose(1, 0, 2).reshape(-1)


def value_rows(source: RowSource, config: ModelConfig) -> RowSource:
    """Reorder rows (or elements) that belong to value heads."""
    return regrouped(source, _in_turn(config, source.shape[0] // config.integer("linear_num_value_heads")))


def value_rows_after_keys(source: RowSource, config: ModelConfig) -> RowSource:
    """Reorder the rows of V, which follow those of Q and K."""
    order = _in_turn(config, config.integer("linear_value_head_dim"))
    first = source.shape[0] - len(order)
    return regrouped(source, numpy.concatenate([numpy.arange(first), first + order]))


def value_columns(source: RowSource, config: ModelConfig) -> RowSource:
    """Reorder columns that belong to value heads."""
    return SelectedColumns(source, _in_turn(config, config.integer("linear_value_head_dim")))


SEPARATE_STATES = (
    bare_block(
        "linear_attn.A_log", "ssm_a", "linear_num_value_heads", transform=compose(value_rows, negative_exponential)
    ),
    bare_block("linear_attn.dt_bias", "ssm_dt.bias", "linear_num_value_heads", transform=value_rows),
    block(
        "linear_attn.conv1d",
        "ssm_conv1d",
        QKV,
        "1",
        "linear_conv_kernel_dim",
        transform=compose(squeeze, value_rows_after_keys),
    ),
    *(tensor for tensor in STATES if "linear_attn.norm" in tensor.source),
    block("linear_attn.in_proj_qkv", "attn_qkv", QKV, "embd", transform=value_rows_after_keys),
    block("linear_attn.in_proj_z", "attn_gate", VALUES, "embd", transform=value_rows),
    block("linear_attn.in_proj_a", "ssm_alpha", "linear_num_value_heads", "embd", transform=value_rows),
    block("linear_attn.in_proj_b", "ssm_beta", "linear_num_value_heads", "embd", transform=value_rows),
    block("linear_attn.out_proj", "ssm_out", "embd", VALUES, transform=value_columns),
)


def _metadata(config: ModelConfig) -> Metadata:
    sections = (*global_rope(config).integer_list("mrope_section", [*DEFAULT_SECTIONS]), 0, 0, 0, 0)[:4]
    return linear_metadata(config) | {"rope.dimension_sections": array(ValueType.INT32, sections)}


QWEN3_5 = replace(
    QWEN3,
    name="qwen35",
    hf_classes=("Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration"),
    compared=frozenset({"Qwen3_5ForCausalLM"}),
    model_types=("qwen3_5_text", "qwen3_5"),
    tensors=AROUND
    + BLOCK_NORMS
    + in_layers(GATED_ATTENTION, other_than(is_linear))
    + in_layers(SEPARATE_STATES, is_linear)
    + GATED_MLP
    + in_layers(PREDICTION, predicts),
    class_defaults=QWEN3.class_defaults | LINEAR_DEFAULTS | {"head_dim": 256},
    derived=QWEN3.derived | LINEAR_DERIVED,
    metadata=_metadata,
    block_count=blocks,
    naming=Naming(multi_token_prediction=True),
    renamed=head_as_block,
)

MINICPM_V4_6 = replace(
    QWEN3_5,
    hf_classes=("MiniCPMV4_6ForConditionalGeneration",),
    compared=frozenset({"MiniCPMV4_6ForConditionalGeneration"}),
    model_types=("minicpmv4_6",),
    naming=Naming(),
)
"""The text model of MiniCPM-V 4.6, whose head for further tokens llama.cpp's converter leaves out."""

ARCHITECTURES = (QWEN3_5, MINICPM_V4_6)
