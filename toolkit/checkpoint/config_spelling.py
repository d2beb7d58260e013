"""config.json in one spelling: nothing after this module reads raw keys.

The hub's configs differ by age and by author: `rope_scaling` or `rope_parameters`, `n_layer` or `num_hidden_layers`, a
`text_config` inside a multimodal one, null for absent. transformers hides that; here it is a table.
"""

from collections.abc import Mapping
from typing import Any

from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError

ALIASES: dict[str, tuple[str, ...]] = {
    "num_hidden_layers": ("n_layers", "n_layer", "num_layers"),
    "hidden_size": ("n_embd", "dim", "d_model"),
    "intermediate_size": ("n_inner", "hidden_dim"),
    "num_attention_heads": ("n_heads", "n_head"),
    "num_key_value_heads": ("n_kv_heads", "n_head_kv", "num_kv_heads"),
    "max_position_embeddings": (
        "n_ctx",
        "n_positions",
        "max_length",
        "max_sequence_length",
        "max_seq_len",
        "seq_length",
        "model_max_length",
    ),
    "rms_norm_eps": (
        "norm_eps",
        "rms_norm_epsilon",
        "layernorm_epsilon",
        "norm_epsilon",
        "layer_norm_epsilon",
        "layer_norm_eps",
    ),
    "layer_norm_eps": ("layer_norm_epsilon", "norm_epsilon", "norm_eps"),
    "rope_theta": ("rotary_emb_base", "global_rope_theta"),
    "rope_local_base_freq": ("local_rope_theta", "rope_local_theta", "swa_rope_theta"),
    "partial_rotary_factor": ("rotary_pct", "rope_pct", "rope_percent"),
    "num_local_experts": ("num_experts", "n_routed_experts", "moe_num_experts"),
    "num_experts_per_tok": ("num_experts_per_token", "top_k_experts", "moe_k"),
    "first_k_dense_replace": ("num_dense_layers",),
    "n_shared_experts": ("num_shared_experts",),
    "scoring_func": ("score_function", "score_func", "moe_router_activation_func"),
    "dtype": ("torch_dtype",),
    "hidden_act": ("hidden_activation", "activation_function"),
}
"""The spelling used here, and the others that mean the same."""

_EXACT = 1 << 53
"""up to here a float is the whole number that it looks like"""
_DEPTH = 8
"""deeper than any setting lies in a config"""


def normalise(raw: Mapping[str, Any]) -> ModelConfig:
    """Return config.json in one spelling.

    Raises ConfigError if nested parts are not objects.
    """
    raw = whole_numbers(raw)
    merged = dict(raw)
    text_config = text_part(raw)
    if text_config is not None:
        merged |= {key: value for key, value in text_config.items() if value is not None}
        merged["wrapper_architectures"] = raw.get("architectures")
        merged["architectures"] = text_config.get("architectures")
        merged["model_type"] = text_config.get("model_type", raw.get("model_type"))
    present = {key: value for key, value in merged.items() if value is not None}
    return ModelConfig(_one_spelling(present) | {"rope": _rope(present)})


def whole_numbers(value: Any, depth: int = 0) -> Any:
    """Return a value of a config with integers for all floats that are whole: many programs write 128.0 for 128."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    if depth > _DEPTH:
        return value
    if isinstance(value, dict):
        return {key: whole_numbers(item, depth + 1) for key, item in value.items()}
    return [whole_numbers(item, depth + 1) for item in value] if isinstance(value, list) else value


def text_part(raw: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the config of the language model inside a multimodal one; None if the whole is a language model.

    Most call it text_config, InternVL llm_config; Qwen's Omni models have it in that of the part that thinks.

    Raises ConfigError if it is not an object.
    """
    inside = raw.get("thinker_config")
    outer = inside if isinstance(inside, dict) else raw
    key = next((key for key in ("text_config", "llm_config") if outer.get(key) is not None), None)
    if key is None:
        return None
    if not isinstance(outer[key], dict):
        raise ConfigError(f"config.json: {key} is not an object")
    return dict(outer[key])


def _one_spelling(present: dict[str, Any]) -> dict[str, Any]:
    values = dict(present)
    for key, others in ALIASES.items():
        found = next((values[other] for other in others if other in values), None)
        if key not in values and found is not None:
            values[key] = found
    return values


def _rope(present: dict[str, Any]) -> dict[str, Any]:
    """Return the rope parameters, as transformers 5 spells them: rope_type, rope_theta, factor, ….

    transformers 5 writes rope_parameters; earlier ones rope_scaling beside a top-level rope_theta, and before that
    `type` for `rope_type`.
    """
    scaling = present.get("rope_parameters") or present.get("rope_scaling") or {}
    if not isinstance(scaling, dict):
        raise ConfigError(f"config.json: rope_scaling is {scaling!r}, expected an object")
    rope = {key: value for key, value in scaling.items() if value is not None}
    if "type" in rope:
        rope.setdefault("rope_type", rope.pop("type"))
    for key in ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings"):
        found = next((present[name] for name in (key, *ALIASES.get(key, ())) if name in present), None)
        if found is not None:
            rope.setdefault(key, found)
    rope.setdefault("rope_type", "default")
    return rope
