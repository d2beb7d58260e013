"""Nomic's embedders: BERT with rope, a fused QKV and a gated MLP (v1, v1.5), or experts in every other block (v2)."""

from dataclasses import replace
from functools import partial

from toolkit.architectures.families.bert import BERT, EMBEDDINGS, encoder_metadata
from toolkit.architectures.parts.base import (
    Architecture,
    Naming,
    TensorRule,
    biases,
    block,
    in_layers,
    other_than,
    rule,
    without,
)
from toolkit.architectures.parts.checks import activation, all_of, setting
from toolkit.architectures.parts.row_sources import Reshaped
from toolkit.architectures.parts.transforms import compose, transpose
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError
from toolkit.gguf.format import Metadata, uint32
from toolkit.gguf.rows import RowSource

TRAINED_POSITIONS = {8192: 2048, 2048: 512}
"""n_positions of a config -> the tokens that the published models were trained for, which the config does not say"""

_layer = partial(block, within="encoder.layers")
NORM = (rule("model.emb_ln", "token_embd_norm", "embd"),)
ATTENTION = (
    _layer("attn.Wqkv", "attn_qkv", "3*embd", "embd"),
    _layer("attn.out_proj", "attn_output", "embd", "embd"),
)
BLOCK_NORMS = (_layer("norm1", "attn_output_norm", "embd"), _layer("norm2", "layer_output_norm", "embd"))
GATED_MLP = (
    _layer("mlp.fc11", "ffn_up", "ff", "embd"),
    _layer("mlp.fc12", "ffn_gate", "ff", "embd"),
    _layer("mlp.fc2", "ffn_down", "embd", "ff"),
)


def check_positions(config: ModelConfig) -> None:
    """Refuse a number of positions for which it is not known how many were trained.

    Raises ConfigError.
    """
    positions, trained = config.integer("max_position_embeddings"), config.integer("max_trained_positions", 2048)
    if positions not in TRAINED_POSITIONS or trained != TRAINED_POSITIONS[8192]:
        raise ConfigError(
            f"config.json: n_positions {positions} with max_trained_positions {trained}; known are 8192 (v1, v1.5) and "
            "2048 (v2), trained for 2048"
        )


CHECKS = all_of(
    check_positions,
    setting("causal", False),
    setting("prenorm", False),
    setting("rotary_emb_fraction", 1.0, 1),
    setting("rotary_emb_interleaved", False),
    setting("rotary_emb_scale_base"),
)


def nomic_metadata(config: ModelConfig) -> Metadata:
    """Return the keys of Nomic's encoders."""
    context = TRAINED_POSITIONS[config.integer("max_position_embeddings")]
    return encoder_metadata(config) | {"context_length": uint32(context)}


def _has_experts(config: ModelConfig, layer: int) -> bool:
    return layer % config.integer("moe_every_n_layers") == 1


def _by_expert(source: RowSource, config: ModelConfig) -> RowSource:
    return Reshaped(
        source, (config.integer("num_local_experts"), config.integer("intermediate_size"), source.shape[-1])
    )


def _moe_metadata(config: ModelConfig) -> Metadata:
    return nomic_metadata(config) | {
        "moe_every_n_layers": uint32(config.integer("moe_every_n_layers")),
        "expert_used_count": uint32(config.integer("moe_top_k")),
    }


def _variant(config: ModelConfig) -> Architecture | None:
    return NOMIC_BERT_MOE if config.get("moe_every_n_layers") else None


NOMIC_BERT = replace(
    BERT,
    name="nomic-bert",
    hf_classes=("NomicBertModel",),
    compared=frozenset({"NomicBertModel"}),
    model_types=("nomic_bert",),
    tensors=(
        *without(EMBEDDINGS, "position"),
        *NORM,
        *biases(NORM),
        *ATTENTION,
        *GATED_MLP,
        *BLOCK_NORMS,
        *biases(BLOCK_NORMS),
    ),
    metadata=nomic_metadata,
    unwritten=frozenset({"attention.head_count_kv"}),
    check=all_of(
        CHECKS,
        activation("swiglu"),
        setting("qkv_proj_bias", False),
        setting("mlp_fc1_bias", False),
        setting("mlp_fc2_bias", False),
    ),
    naming=Naming(embedding="embeddings.word_embeddings", blocks="encoder.layers"),
    variant=_variant,
)

PLAIN_MLP = (_layer("mlp.fc1", "ffn_up", "ff", "embd"), _layer("mlp.fc2", "ffn_down", "embd", "ff"))
_EXPERTS = "model.encoder.layers.{layer}.mlp.experts.mlp"
EXPERTS = (
    _layer("mlp.router.layer", "ffn_gate_inp", "experts", "embd"),
    TensorRule(f"{_EXPERTS}.w1", "blk.{layer}.ffn_up_exps.weight", ("experts*ff", "embd"), _by_expert),
    TensorRule(
        f"{_EXPERTS}.w2", "blk.{layer}.ffn_down_exps.weight", ("experts*ff", "embd"), compose(_by_expert, transpose)
    ),
)

NOMIC_BERT_MOE = replace(
    NOMIC_BERT,
    name="nomic-bert-moe",
    tensors=(
        *without(EMBEDDINGS, "position"),
        *NORM,
        *biases(NORM),
        *ATTENTION,
        *biases(ATTENTION),
        *in_layers(PLAIN_MLP + biases(PLAIN_MLP), other_than(_has_experts)),
        *in_layers(EXPERTS, _has_experts),
        *BLOCK_NORMS,
        *biases(BLOCK_NORMS),
    ),
    metadata=_moe_metadata,
    check=all_of(
        CHECKS,
        activation("gelu"),
        setting("qkv_proj_bias", True),
        setting("mlp_fc1_bias", True),
        setting("mlp_fc2_bias", True),
    ),
    vocabularies=("xlm_roberta", "wordpiece"),
    dropped=NOMIC_BERT.dropped | {r".*\.mlp\.experts\.bias": "the experts' common bias, which llama.cpp does not add"},
)

ARCHITECTURES = (NOMIC_BERT,)
