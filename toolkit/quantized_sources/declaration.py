"""What a checkpoint says about its quantization, wherever it says it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from toolkit.checkpoint.model_config import whole_numbers
from toolkit.errors import CheckpointError
from toolkit.json_files import read_json_object
from toolkit.name_patterns import name_pattern
from toolkit.pattern_syntax import PatternError

ADVICE = "convert the original in bf16 or f16"
_OLDER_NAMES = {"intel/auto-round": "auto-round", "auto_round": "auto-round", "autoround": "auto-round"}


@dataclass(frozen=True)
class Declaration:
    """A quantization method and its settings."""

    method: str
    settings: Mapping[str, Any]
    file: str
    of_modules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """what is said of modules by their names, over the settings of all"""

    def integer(self, *keys: str) -> int:
        """Return the first of these settings that is there.

        Raises CheckpointError if none is an integer.
        """
        value = next((self.settings[key] for key in keys if self.settings.get(key) is not None), None)
        if isinstance(value, bool) or not isinstance(value, int):
            raise CheckpointError(
                f"{self.file}: {keys[0]} of the {self.method} quantization is {value!r}, expected a number"
            )
        return value

    def of_module(self, module: str) -> "Declaration":
        """Return the settings of one module: its own by name, else those of GPTQModel's `dynamic`, over the settings of all.

        `dynamic` is {"+:REGEX": {"bits": 8}}; the first that matches the beginning of a name counts, and `-:` names modules
        that are not quantized.

        Raises CheckpointError if `dynamic` is something else.
        """
        if module in self.of_modules:
            return replace(self, settings={**self.settings, **self.of_modules[module]})
        overrides = self.settings.get("dynamic") or {}
        try:
            for pattern, override in overrides.items():
                if not pattern.startswith("-:") and name_pattern(pattern.removeprefix("+:")).matches_start(module):
                    return replace(self, settings={**self.settings, **override})
        except PatternError as error:
            raise self.refusal(f"with the pattern {pattern[:60]!r} in dynamic: {error}", module) from error
        except (AttributeError, TypeError, ValueError) as error:
            raise self.refusal(f"with dynamic {str(overrides)[:60]!r}", module) from error
        return self

    def refusal(self, what: str, module: str | None = None) -> CheckpointError:
        """Return the error for a variant of the method that is not read."""
        where = f" (first: {module})" if module else ""
        return CheckpointError(f"{self.file}: {self.method} quantization {what}{where}, which cannot be read; {ADVICE}")


def find_declaration(directory: Path, config: Mapping[str, Any]) -> Declaration | None:
    """Return what config.json, or a file beside it that older tools wrote, says; None if nothing does."""
    text_config = config.get("text_config")
    for values in (config, text_config if isinstance(text_config, dict) else {}):
        for key in ("quantization_config", "compression_config", "quantization"):
            if values.get(key) is not None:
                return _from_config(key, values[key])
    for file, method in (
        ("quantize_config.json", "gptq"),
        ("quant_config.json", "awq"),
        ("hf_quant_config.json", "modelopt"),
        ("quantization_config.json", "auto-round"),
    ):
        if (directory / file).is_file():
            return _from_file(directory / file, method)
    return None


def _from_config(key: str, settings: Any) -> Declaration:
    if not isinstance(settings, dict):
        raise CheckpointError(f"config.json: {key} is {str(settings)[:60]!r}, expected an object")
    method = settings.get("quant_method")
    if method is None and {"group_size", "bits"} <= settings.keys():
        method = "mlx"
    if method is None and settings.keys() & {"load_in_4bit", "load_in_8bit"}:
        method = "bitsandbytes"
    if method is None and "quant_algo" in settings:
        method = "modelopt"
    name = str(method or "unnamed").lower()
    return Declaration(_OLDER_NAMES.get(name, name), settings, "config.json")


def _from_file(path: Path, method: str) -> Declaration:
    settings = whole_numbers(read_json_object(path))
    nested = settings.get("quantization")
    return Declaration(method, nested if isinstance(nested, dict) else settings, path.name)
