"""config.json in one spelling: nothing after this module reads raw keys.

The hub's configs differ by age and by author: `rope_scaling` or `rope_parameters`, `n_layer` or `num_hidden_layers`, a
`text_config` inside a multimodal one, null for absent. transformers hides that, and fills in the defaults of the model's
class; here both are tables.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from toolkit.errors import ConfigError, MetadataError
from toolkit.gguf.format import MAX_INTEGER, is_number, shortened

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

_MOST = {
    "num_hidden_layers": 512, "num_decoder_layers": 512, "num_local_experts": 1024, "num_labels": 1 << 20,
    "hidden_size": 1 << 20,
}  # fmt: skip
"""What lists and loops are as long as. llama.cpp has room for 512 blocks and 1,024 experts (src/llama-hparams.h)."""
_MOST_HEADS = 2048
"""Heads, and weights in a head, four times the most in use: orders of rows are lists of heads times their length."""
_EXACT = 1 << 53
"""up to here a float is the whole number that it looks like"""
_DEPTH = 8
"""deeper than any setting lies in a config"""

Default = Any | Callable[["ModelConfig"], Any]


@dataclass
class LastRead:
    """Which key was asked for last, of a config and of those that were made of it."""

    key: str = ""


@dataclass(frozen=True)
class ModelConfig:
    """A normalised config: no nulls, one spelling, the text part of a multimodal model at the top."""

    values: Mapping[str, Any]
    defaults: Mapping[str, Default] = field(default_factory=dict)
    last_read: LastRead = field(default_factory=LastRead, compare=False, repr=False)

    def __getitem__(self, key: str) -> Any:
        """Return a value or its class default.

        Raises ConfigError if the config lacks a key that has no default.
        """
        value = self.get(key)
        if value is None:
            written_by = self.values.get("transformers_version")
            version = f" (written by transformers {written_by})" if written_by else ""
            raise ConfigError(f"config.json has no {key}, and there is no default for it{version}")
        return value

    def get(self, key: str, otherwise: Any = None) -> Any:
        """Return a value, else its class default, else `otherwise`."""
        self.last_read.key = key
        if key in self.values:
            return self.values[key]
        default = self.defaults.get(key)
        if callable(default):
            default = default(self)
        return otherwise if default is None else default

    def integer(self, key: str) -> int:
        """Return a value that must be a positive integer.

        Raises ConfigError if it is something else, or absent.
        """
        value = self[key]
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_INTEGER:
            raise ConfigError(f"config.json: {key} is {shortened(value)}, expected a positive integer")
        most = _MOST_HEADS if "head" in key else _MOST.get(key, value)
        if value > most:
            raise ConfigError(f"config.json: {key} is {value}, but no model has more than {most}")
        return value

    def number(self, key: str) -> float:
        """Return a value that must be a number.

        Raises ConfigError if it is something else, or absent.
        """
        value = self[key]
        if isinstance(value, list):
            raise ConfigError(
                f"config.json: per-layer {key} is not supported for {self.get('model_type', 'this model')}"
            )
        if not is_number(value):
            raise ConfigError(f"config.json: {key} is {shortened(value)}, expected a number")
        return float(value)

    def with_defaults(self, defaults: Mapping[str, Default]) -> "ModelConfig":
        """Return the same config with the defaults of a class."""
        return replace(self, defaults=defaults)

    def with_values(self, **values: Any) -> "ModelConfig":
        """Return the same config with some values in place of its own."""
        return replace(self, values={**self.values, **values})


@contextmanager
def naming_bad_values(config: ModelConfig) -> Iterator[None]:
    """Name the key whose value an architecture could not work with: the one that was asked for last.

    Architectures take numbers for numbers and lists for lists; what else a config may hold is found out here.

    Raises ConfigError in place of what Python raises over a value of another kind.
    """
    try:
        yield
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, MetadataError) as error:
        key = config.last_read.key
        value = str(config.values.get(key))[:60]
        raise ConfigError(f"config.json: {key} is {value}, which is not what this architecture has there") from error


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
