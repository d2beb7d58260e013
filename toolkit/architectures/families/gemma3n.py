"""Gemma 3n: embeddings of their own for every layer, four streams (AltUp), a low-rank bypass (LAuReL), shared K and V."""

import math
from dataclasses import replace
from statistics import NormalDist

import numpy

from toolkit.architectures.families.gemma import GEMMA
from toolkit.architectures.families.gemma2 import SANDWICH_NORMS
from toolkit.architectures.families.llama import EMBEDDING, NORMS, OUTPUT_NORM, PROJECTIONS
from toolkit.architectures.families.qwen3 import HEAD_NORMS
from toolkit.architectures.parts.base import TensorRule, bare_block, block, needed_in_layers, rule
from toolkit.architectures.parts.checks import all_of, gelu, setting, tied
from toolkit.architectures.parts.row_sources import Padded
from toolkit.architectures.parts.windows import window_metadata
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.gguf.format import Metadata, ValueType, array, float32, uint32
from toolkit.gguf.rows import RowSource

_PER_LAYER = "num_hidden_layers*hidden_size_per_layer_input"


def as_many_rows_as_tokens(source: RowSource, config: ModelConfig) -> RowSource:
    """Fill up the rows of the tokens that have no embedding of their own in the layers: images and sound."""
    rows = config.integer("vocab_size")
    return Padded(source, (rows, source.shape[1])) if rows > source.shape[0] else source


def _streams(name: str, target: str) -> TensorRule:
    return TensorRule(f"model.{name}.{{expert}}.weight", f"{target}.weight", ("embd", "embd"), count="3")


STREAMS = (
    _streams("altup_projections", "altup_proj"),
    _streams("altup_unembed_projections", "altup_unembd_proj"),
)
PER_LAYER_EMBEDDING = (
    rule(
        "model.embed_tokens_per_layer",
        "per_layer_token_embd",
        "vocab_size_per_layer_input",
        _PER_LAYER,
        transform=as_many_rows_as_tokens,
    ),
    rule("model.per_layer_model_projection", "per_layer_model_proj", _PER_LAYER, "embd"),
    rule("model.per_layer_projection_norm", "per_layer_proj_norm", "hidden_size_per_layer_input"),
)
ALTUP = (
    bare_block("altup.correct_output_scale", "altup_correct_scale.weight", "embd"),
    block("altup.correction_coefs", "altup_correct_coef", "altup_num_inputs", "altup_num_inputs"),
    block("altup.modality_router", "altup_router", "altup_num_inputs", "embd"),
    block("altup.prediction_coefs", "altup_predict_coef", "altup_num_inputs*altup_num_inputs", "altup_num_inputs"),
    block("altup.router_norm", "altup_router_norm", "embd"),
)
BYPASS = (
    block("laurel.linear_left", "laurel_l", "laurel_rank", "embd"),
    block("laurel.linear_right", "laurel_r", "embd", "laurel_rank"),
    block("laurel.post_laurel_norm", "laurel_post_norm", "embd"),
)
PER_LAYER_INPUT = (
    block("per_layer_input_gate", "inp_gate", "hidden_size_per_layer_input", "embd"),
    block("per_layer_projection", "proj", "embd", "hidden_size_per_layer_input"),
    block("post_per_layer_input_norm", "post_norm", "embd"),
)
MLP = (
    block("mlp.gate_proj", "ffn_gate", "mlp_width", "embd"),
    block("mlp.up_proj", "ffn_up", "mlp_width", "embd"),
    block("mlp.down_proj", "ffn_down", "embd", "mlp_width"),
)
QUERIES = (PROJECTIONS[0], PROJECTIONS[3], HEAD_NORMS[0])
KEYS_AND_VALUES = (PROJECTIONS[1], PROJECTIONS[2], HEAD_NORMS[1])


def has_keys(config: ModelConfig, layer: int) -> bool:
    """Tell whether a layer has keys and values of its own; the last ones use those of a layer before."""
    return layer < config.integer("num_hidden_layers") - int(config["num_kv_shared_layers"])


def _width(config: ModelConfig) -> int:
    widths = config["intermediate_size"]
    return int(widths[0] if isinstance(widths, list) else widths)


def _sparsity(share: float) -> float:
    """Return how many standard deviations above the mean a value must lie to be kept, rounded as torch's float32 icdf is."""
    if share <= 0:
        return float("-inf")
    twice = float(numpy.float32(2) * numpy.float32(share) - numpy.float32(1))
    inverse_erf = numpy.float32(NormalDist().inv_cdf((twice + 1) / 2) / math.sqrt(2))
    return float(inverse_erf * numpy.float32(math.sqrt(2)))


def _metadata(config: ModelConfig) -> Metadata:
    n_layer, width = config.integer("num_hidden_layers"), config["intermediate_size"]
    widths = width if isinstance(width, list) else [width] * n_layer
    return window_metadata(config) | {
        "feed_forward_length": array(ValueType.INT32, widths),
        "final_logit_softcapping": float32(config.number("final_logit_softcapping")),
        "altup.active_idx": uint32(int(config["altup_active_idx"])),
        "altup.num_inputs": uint32(config.integer("altup_num_inputs")),
        "embedding_length_per_layer_input": uint32(config.integer("hidden_size_per_layer_input")),
        "attention.shared_kv_layers": uint32(int(config["num_kv_shared_layers"])),
        "activation_sparsity_scale": array(
            ValueType.FLOAT32, (_sparsity(share) for share in config["activation_sparsity_pattern"])
        ),
    }


GEMMA3N = replace(
    GEMMA,
    name="gemma3n",
    hf_classes=("Gemma3nForCausalLM", "Gemma3nForConditionalGeneration"),
    model_types=("gemma3n_text", "gemma3n"),
    tensors=EMBEDDING
    + OUTPUT_NORM
    + STREAMS
    + PER_LAYER_EMBEDDING
    + NORMS[:1]
    + SANDWICH_NORMS
    + QUERIES
    + needed_in_layers(KEYS_AND_VALUES, has_keys)
    + ALTUP
    + BYPASS
    + PER_LAYER_INPUT
    + MLP,
    defaults=GEMMA.defaults
    | {
        "mlp_width": _width,
        "intermediate_size": 16384,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "sliding_window": 512,
        "sliding_window_pattern": 5,
        "final_logit_softcapping": 30.0,
        "vocab_size_per_layer_input": 262144,
        "hidden_size_per_layer_input": 256,
        "altup_active_idx": 0,
        "altup_num_inputs": 4,
        "num_kv_shared_layers": 15,
        "laurel_rank": 64,
        "activation_sparsity_pattern": lambda config: [
            0.95 if layer < 10 else 0.0 for layer in range(config.integer("num_hidden_layers"))
        ],
    },
    metadata=_metadata,
    unwritten=frozenset({"feed_forward_length"}),
    check=all_of(gelu, tied, setting("altup_num_inputs", 4)),
    rope_types=("default", "local"),
)

ARCHITECTURES = (GEMMA3N,)
