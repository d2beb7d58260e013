"""The architectures that convert: a file a family in `families`, listed in `registry`; `parts` is what they are made of."""

import difflib
from functools import cache
from importlib import import_module

from toolkit.architectures import families
from toolkit.architectures.parts.base import Architecture
from toolkit.architectures.refused import REFUSED
from toolkit.architectures.registry import FAMILIES, file_of
from toolkit.checkpoint.model_config import ModelConfig
from toolkit.errors import ConfigError


def known_architectures() -> tuple[Architecture, ...]:
    """Return every architecture, in the order of their files."""
    return tuple(architecture for members in architecture_families().values() for architecture in members)


@cache
def architecture_families() -> dict[str, tuple[Architecture, ...]]:
    """Return the architectures by family: files whose names begin with that of another belong to it."""
    members: dict[str, tuple[Architecture, ...]] = {}
    for name in FAMILIES:
        family = next((known for known in members if name.startswith(known)), name)
        members[family] = (*members.get(family, ()), *_architectures_in(name))
    return members


def find_architecture(config: ModelConfig) -> tuple[Architecture, tuple[str, ...]]:
    """Return the architecture of a config, and notes on how it was found.

    The class of a whole multimodal model decides, if it is known; else the class named in `architectures`; `model_type`
    where no class is named. Only the file of the model type is imported where that has the class; all files take long.

    Raises ConfigError if it is unknown; the message lists the known ones and names the nearest.
    """
    whole, named = _first(config.get("wrapper_architectures")), _first(config.get("architectures"))
    model_type = config.get("model_type")
    file = file_of(model_type)
    near = () if file is None else _architectures_in(file)
    known = next((known for known in near if whole is None and named in known.hf_classes), None)
    if known is not None:
        return _of_config(known, config), ()
    by_class = {name: known for known in known_architectures() for name in known.hf_classes}
    for name in (whole, named):
        if name in by_class:
            return _of_config(by_class[name], config), ()
    known = next((known for known in near if named is None and model_type in known.model_types), None)
    if known is None:
        raise ConfigError(_unknown(str(named or model_type), list(by_class)))
    note = f"config.json names no architecture; taken as {known.hf_classes[0]} from model_type {model_type!r}"
    return _of_config(known, config), (note,)


def _architectures_in(file: str) -> tuple[Architecture, ...]:
    architectures: tuple[Architecture, ...] = import_module(f"{families.__name__}.{file}").ARCHITECTURES
    return architectures


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
