"""The settings of an adapter of PEFT or MLX, from its adapter_config.json; what llama.cpp cannot apply is refused."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import CheckpointError, ConfigError
from toolkit.gguf.format import is_number, shortened
from toolkit.json_files import read_json_object
from toolkit.name_patterns import MAX_PATTERNS, NamePattern, name_pattern
from toolkit.pattern_syntax import PatternError

CONFIG = "adapter_config.json"
MERGE = "merge it into its base (merge_and_unload) and convert the result"
FUSE = "merge it into its base (mlx_lm.fuse) and convert the result"
_CHANGING_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""beginnings of init_lora_weights that subtract the adapter's first values from the base's weights (peft 0.21, tuners/lora)"""
_UNSUPPORTED = {
    "use_dora": "DoRA, which scales whole rows of the weights",
    "fan_in_fan_out": "for transposed weights",
    "layer_replication": "for a base whose layers are repeated",
    "lora_bias": "with biases of its own",
    "use_qalora": "QA-LoRA",
    "use_bdlora": "of blocks along a diagonal",
    "arrow_config": "one of several, among which a router chooses",
    "kasa_config": "KaSA, which changes the base's own weights",
}
"""Key of adapter_config.json that is set for adapters llama.cpp cannot apply -> what such an adapter is."""


@dataclass(frozen=True)
class LoraSettings:
    """The numbers that an adapter is applied with."""

    base: str | None
    """name or path of the base model"""
    rank: int
    alpha: float
    alphas: Mapping[str, float]
    """regular expression of module names -> another alpha"""
    rank_stabilized: bool
    invocation_tokens: tuple[int, ...] = ()
    """an activated LoRA works from these tokens on"""

    @property
    def file_alpha(self) -> float:
        """Return the alpha for llama.cpp, which multiplies B A by alpha / rank and knows no other scaling."""
        return self.alpha * math.sqrt(self.rank) if self.rank_stabilized else self.alpha

    def scale(self, module: str, rank: int) -> float:
        """Return the factor of B A for a module: alpha / rank, or alpha / sqrt(rank) where it is rank-stabilized."""
        # PEFT takes the first pattern that matches the end of a name (get_pattern_key in its utils).
        matching = (alpha for pattern, alpha in self.alphas.items() if _at_the_end(pattern).matches_whole(module))
        alpha = next(matching, self.alpha)
        return alpha / math.sqrt(rank) if self.rank_stabilized else alpha / rank


def read_config(directory: Path) -> dict[str, Any]:
    """Read adapter_config.json.

    Raises CheckpointError if it is absent or malformed.
    """
    file = directory / CONFIG
    if not file.is_file():
        raise CheckpointError(f"{directory} has no {CONFIG}; give the directory of a PEFT or MLX adapter")
    return read_json_object(file)


def peft_settings(config: Mapping[str, Any]) -> LoraSettings:
    """Return what PEFT's adapter_config.json says.

    Raises ConfigError if llama.cpp cannot apply such an adapter.
    """
    _refuse_unsupported(config)
    base = config.get("base_model_name_or_path")
    return LoraSettings(
        base=base if isinstance(base, str) and base else None,
        rank=int(positive(config, "r")),
        alpha=positive(config, "lora_alpha"),
        alphas=_alphas(config.get("alpha_pattern") or {}),
        rank_stabilized=bool(config.get("use_rslora")),
        invocation_tokens=_invocation_tokens(config),
    )


def is_mlx(config: Mapping[str, Any]) -> bool:
    """Tell whether adapter_config.json was written by MLX."""
    return "peft_type" not in config and bool(config.keys() & {"fine_tune_type", "lora_parameters"})


def mlx_settings(config: Mapping[str, Any]) -> LoraSettings:
    """Return the numbers of an adapter: MLX's scale is alpha / rank.

    Raises ConfigError for another kind than LoRA, or numbers that are missing.
    """
    kind, parameters = config.get("fine_tune_type", "lora"), config.get("lora_parameters")
    if kind != "lora":
        raise ConfigError(f"{CONFIG}: fine_tune_type is {kind!r}; only 'lora' can be applied by llama.cpp: {FUSE}")
    if not isinstance(parameters, Mapping):
        raise ConfigError(f"{CONFIG}: lora_parameters is {parameters!r}, expected an object")
    if config.get("use_dora") or parameters.get("use_dora"):
        raise ConfigError(f"{CONFIG}: the adapter is DoRA (use_dora); llama.cpp cannot apply it: {FUSE}")
    rank, base = int(positive(parameters, "rank")), config.get("model")
    return LoraSettings(
        base=base if isinstance(base, str) and base else None,
        rank=rank,
        alpha=positive(parameters, "scale") * rank,
        alphas={},
        rank_stabilized=False,
    )


def _refuse_unsupported(config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ConfigError(f"{CONFIG}: peft_type is {kind!r}; only LORA can be applied by llama.cpp: {MERGE}")
    variant = next((what for key, what in _UNSUPPORTED.items() if config.get(key)), None)
    if variant is not None:
        raise ConfigError(f"{CONFIG}: the adapter is {variant}; llama.cpp cannot apply it: {MERGE}")
    started = config.get("init_lora_weights")
    if isinstance(started, str) and started.lower().startswith(_CHANGING_THE_BASE):
        raise ConfigError(
            f"{CONFIG}: init_lora_weights is {started!r}, which changes the base's own weights, so that on the base as it is "
            "published the adapter is wrong: save it as plain LoRA (save_pretrained with "
            f"path_initial_model_for_weight_conversion), or {MERGE}"
        )
    if config.get("bias", "none") != "none":
        raise ConfigError(f"{CONFIG}: bias is {config['bias']!r}; llama.cpp applies no biases of adapters: {MERGE}")


def positive(config: Mapping[str, Any], key: str) -> float:
    """Return a number above 0.

    Raises ConfigError if it is something else, or absent.
    """
    value = config.get(key)
    if not is_number(value) or not value > 0:  # type: ignore[operator]  # is_number has looked
        raise ConfigError(f"{CONFIG}: {key} is {value!r}, expected a number above 0")
    return float(value)  # type: ignore[arg-type]


def _at_the_end(pattern: str) -> NamePattern:
    return name_pattern(rf"(.*\.)?({pattern})")


def _alphas(patterns: Any) -> dict[str, float]:
    if not isinstance(patterns, dict):
        raise ConfigError(f"{CONFIG}: alpha_pattern is not an object of patterns and numbers")
    if len(patterns) > MAX_PATTERNS:
        raise ConfigError(
            f"{CONFIG}: alpha_pattern has {len(patterns):,} patterns, at most {MAX_PATTERNS:,} are matched"
        )
    for pattern in patterns:
        try:
            name_pattern(pattern)
            _at_the_end(pattern)
        except PatternError as error:
            raise ConfigError(
                f"{CONFIG}: alpha_pattern has {shortened(pattern)}, which is not a pattern that can be matched: {error}"
            ) from error
    return {pattern: positive(patterns, pattern) for pattern in patterns}


def _invocation_tokens(config: Mapping[str, Any]) -> tuple[int, ...]:
    tokens = config.get("alora_invocation_tokens") or ()
    if not isinstance(tokens, list | tuple) or not all(type(token) is int and token >= 0 for token in tokens):
        raise ConfigError(f"{CONFIG}: alora_invocation_tokens is not a list of token ids")
    if config.get("invocation_string") and not tokens:
        raise ConfigError(f"{CONFIG}: invocation_string without alora_invocation_tokens; put its token ids there")
    return tuple(tokens)
