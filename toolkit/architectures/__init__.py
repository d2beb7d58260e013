"""The architectures that convert: one file a family in `families`, found by its `ARCHITECTURES`; `parts` is what they are made of."""

import difflib
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from toolkit.architectures import families
from toolkit.architectures.evidence import REFUSED
from toolkit.architectures.parts.base import Architecture
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError


def known_architectures() -> tuple[Architecture, ...]:
    """Return every architecture, in the order of their files."""
    return tuple(architecture for members in architecture_families().values() for architecture in members)


@cache
def architecture_families() -> dict[str, tuple[Architecture, ...]]:
    """Return the architectures by family: files whose names begin with that of another belong to it."""
    members: dict[str, tuple[Architecture, ...]] = {}
    for module in sorted(iter_modules(families.__path__), key=lambda module: module.name):
        found = getattr(import_module(f"{families.__name__}.{module.name}"), "ARCHITECTURES", ())
        if found:
            family = next((name for name in members if module.name.startswith(name)), module.name)
            members[family] = (*members.get(family, ()), *found)
    return members


def find_architecture(config: ModelConfig) -> tuple[Architecture, tuple[str, ...]]:
    """Return the architecture of a config, and notes on how it was found.

    The class of a whole multimodal model decides, if it is known; else the class named in `architectures`; `model_type`
    where no class is named.

    Raises ConfigError if it is unknown; the message lists the known ones and names the nearest.
    """
    whole, named = _first(config.get("wrapper_architectures")), _first(config.get("architectures"))
    model_type = stated if isinstance(stated := config.get("model_type"), str) else None
    likely = None if whole is not None else _in_file_called(model_type, named)
    if likely is not None:
        return _of_config(likely, config), ()
    by_class = {name: known for known in known_architectures() for name in known.hf_classes}
    by_type = {name: known for known in known_architectures() for name in known.model_types}
    for known in (whole, named):
        if known in by_class:
            return _of_config(by_class[known], config), ()
    if named is None and model_type in by_type:
        found = by_type[model_type]
        return _of_config(found, config), (
            f"config.json names no architecture; taken as {found.hf_classes[0]} from model_type {model_type!r}",
        )
    raise ConfigError(_unknown(str(named or model_type), list(by_class)))


def _in_file_called(model_type: str | None, named: str | None) -> Architecture | None:
    """Return the architecture of a class if its file is called as its model_type, as most are: all files take long to import."""
    if model_type not in {module.name for module in iter_modules(families.__path__)}:
        return None
    members: tuple[Architecture, ...] = getattr(import_module(f"{families.__name__}.{model_type}"), "ARCHITECTURES", ())
    return next((known for known in members if named in known.hf_classes), None)


def _of_config(known: Architecture, config: ModelConfig) -> Architecture:
    return known.variant(config) or known


def _first(classes: object) -> str | None:
    return str(classes[0]) if isinstance(classes, list) and classes else None


def _unknown(name: str, known: list[str]) -> str:
    if name in REFUSED:
        return f"architecture {name} is refused: {REFUSED[name]}"
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return (
        f"architecture {name} is not supported; the nearest is {nearest[0]}; known: {', '.join(sorted(known))}; "
        "for others, `convert --converter PATH` has the converter of a llama.cpp checkout read it"
    )
