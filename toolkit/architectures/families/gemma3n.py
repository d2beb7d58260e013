"""Gemma 3n: embeddings of their own for every layer, four streams (AltUp), a low-rank bypass (LAuReL), shared K and V."""

import math
from dataclasses import replace
from statistics import NormalDist

import numpy

from toolkit.architectures.families.gemma import GEMMA
from toolkit.architectures.parts.base import TensorRule, bare_block, block, needed_in_layers
from toolkit.architectures.parts.checks import all_of, gelu, setting, tied
from toolkit.architectures.parts.gemma_layers import PER_LAYER_EMBEDDING, PER_LAYER_INPUT, SANDWICH_NORMS, has_keys
from toolkit.architectures.parts.llama_block import (
    ATTN_NORM,
    K_NORM,
    OUTPUT_NORM,
    Q_NORM,
    TOKEN_EMBD,
    K,
    O,
    Q,
    V,
    gated_mlp,
)
from toolkit.architectures.parts.windows import window_metadata
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError
from toolkit.gguf.format import Metadata, ValueType, array, float32, uint32


def _streams(name: str, target: str) -> TensorRule:
    return TensorRule(f"model.{name}.{{expert}}.weight", f"{target}.weight", ("embd", "embd"), count="3")


STREAMS = (
    _streams("altup_projections", "altup_proj"),
    _streams("altup_unembed_projections", "altup_unembd_proj"),
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


def _widths(config: ModelConfig) -> list[int]:
    """Return the width of every layer's MLP, which a config says for each or for all."""
    n_layer = config.integer("num_hidden_layers")
    if not isinstance(config.get("intermediate_size"), list):
        return [config.integer("intermediate_size")] * n_layer
    widths = config.integer_list("intermediate_size")
    if len(widths) != n_layer:
        raise ConfigError(f"config.json: intermediate_size has {len(widths)} widths for {n_layer} layers")
    return widths


def _sparsity(share: float) -> float:
    """Return how many standard deviations above the mean a value must lie to be kept, rounded as torch's float32 icdf is."""
    if share >= 1:
        raise ConfigError(f"config.json: activation_sparsity_pattern has {share:g}, expected numbers below 1")
    if share <= 0:
        return float("-inf")
    twice = float(numpy.float32(2) * numpy.float32(share) - numpy.float32(1))
    inverse_erf = numpy.float32(NormalDist().inv_cdf((twice + 1) / 2) / math.sqrt(2))
    return float(inverse_erf * numpy.float32(math.sqrt(2)))


def _metadata(config: ModelConfig) -> Metadata:
    return window_metadata(config) | {
        "feed_forward_length": array(ValueType.INT32, _widths(config)),
        "final_logit_softcapping": float32(config.number("final_logit_softcapping")),
        "altup.active_idx": uint32(config.integer("altup_active_idx", least=0)),
        "altup.num_inputs": uint32(config.integer("altup_num_inputs")),
        "embedding_length_per_layer_input": uint32(config.integer("hidden_size_per_layer_input")),
        "attention.shared_kv_layers": uint32(config.integer("num_kv_shared_layers", least=0)),
        "activation_sparsity_scale": array(
            ValueType.FLOAT32, (_sparsity(share) for share in config.number_list("activation_sparsity_pattern"))
        ),
    }


GEMMA3N = replace(
    GEMMA,
    name="gemma3n",
    hf_classes=("Gemma3nForCausalLM", "Gemma3nForConditionalGeneration"),
    compared=frozenset({"Gemma3nForCausalLM"}),
    model_types=("gemma3n_text", "gemma3n"),
    tensors=(
        TOKEN_EMBD,
        OUTPUT_NORM,
        *STREAMS,
        *PER_LAYER_EMBEDDING,
        ATTN_NORM,
        *SANDWICH_NORMS,
        Q,
        O,
        Q_NORM,
        *needed_in_layers((K, V, K_NORM), has_keys),
        *ALTUP,
        *BYPASS,
        *PER_LAYER_INPUT,
        *gated_mlp("mlp", ff="mlp_width"),
    ),
    class_defaults=GEMMA.class_defaults
    | {
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
    },
    derived={
        "mlp_width": lambda config: _widths(config)[0],
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
