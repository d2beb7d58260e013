"""Architectures as text and as JSON."""

from collections.abc import Iterator
from typing import Any

from toolkit.architectures.parts.base import Architecture, TensorRule
from toolkit.render.tables import table_lines
from toolkit.verbs.list_architectures import ListArchitecturesResult, ListedArchitecture
from toolkit.verbs.show_architecture import ShowArchitectureResult

_LABEL_WIDTH = 22


def architectures_lines(result: ListArchitecturesResult) -> list[str]:
    """Return a line an architecture that converts."""
    rows = [
        (known.family, ", ".join(known.classes), ", ".join(known.model_types), known.name, _status(known))
        for known in result.known
    ]
    return table_lines(("family", "class in config.json", "model_type", "in llama.cpp", "status"), rows)


def refused_lines(result: ListArchitecturesResult) -> list[str]:
    """Return a line a class that is refused."""
    return table_lines(("class in config.json", "refused because"), list(result.refused.items()))


def architectures_document(result: ListArchitecturesResult) -> dict[str, Any]:
    """Return the JSON document of all architectures."""
    return {
        "architectures": [
            {
                "family": known.family,
                "name": known.name,
                "classes": list(known.classes),
                "model_types": list(known.model_types),
                "rope_types": list(known.rope_types),
                "status": _status(known),
            }
            for known in result.known
        ],
        "refused": [{"class": name, "reason": reason} for name, reason in result.refused.items()],
    }


def architecture_lines(result: ShowArchitectureResult) -> list[str]:
    """Return what is known of an architecture, and the table of its tensors."""
    lines: list[str] = []
    for architecture in result.architectures:
        lines += ["", ""] if lines else []
        lines += [f"{label:<{_LABEL_WIDTH}}{text}" for label, text in _texts(architecture)]
        rows = [
            (_in_block(rule.source), _in_block(rule.target), " x ".join(rule.shape), ", ".join(_conditions(rule)))
            for rule in architecture.tensors
        ]
        lines += ["", *table_lines(("in the checkpoint", "in the GGUF file", "shape (row length last)", ""), rows)]
    return lines


def architecture_document(result: ShowArchitectureResult) -> dict[str, Any]:
    """Return the JSON document of an architecture, or of several with the same name."""
    return {"architectures": [_document(architecture) for architecture in result.architectures]}


def _document(architecture: Architecture) -> dict[str, Any]:
    return {
        "name": architecture.name,
        "classes": list(architecture.hf_classes),
        "model_types": list(architecture.model_types),
        "vocabularies": list(architecture.vocabularies),
        "rope_types": list(architecture.rope_types),
        "epsilon": architecture.norm,
        "unwritten_keys": sorted(architecture.unwritten),
        "defaults": {**dict.fromkeys(architecture.derived), **architecture.class_defaults},
        "aliases": dict(architecture.aliases),
        "left_out": dict(architecture.dropped),
        "tensors": [
            {
                "source": rule.source,
                "target": rule.target,
                "shape": list(rule.shape),
                "transformed": rule.transform is not None,
                "conditions": list(_conditions(rule)),
            }
            for rule in architecture.tensors
        ],
    }


def _texts(architecture: Architecture) -> Iterator[tuple[str, str]]:
    yield "class in config.json", ", ".join(architecture.hf_classes)
    yield "model_type", ", ".join(architecture.model_types) or "none"
    yield "in llama.cpp", architecture.name
    yield "vocabularies", ", ".join(architecture.vocabularies)
    yield "rope types", ", ".join(architecture.rope_types) or "none"
    yield "epsilon of norms", architecture.norm
    if architecture.unwritten:
        yield "keys not written", ", ".join(sorted(architecture.unwritten))
    given = (f"{key} {value}" for key, value in sorted(architecture.class_defaults.items()))
    derived = sorted(architecture.derived.keys() - architecture.class_defaults.keys())
    yield "defaults", ", ".join((*given, *(f"{key} (derived)" for key in derived))) or "none"
    if architecture.aliases:
        yield "spelled as", ", ".join(f"{key}: {alias}" for key, alias in sorted(architecture.aliases.items()))
    for pattern, reason in architecture.dropped.items():
        yield "left out", f"{pattern}: {reason}"


def _conditions(rule: TensorRule) -> Iterator[str]:
    if rule.transform is not None:
        yield "transformed"
    if rule.layers is not None:
        yield "some blocks"
    if "{expert}" in rule.source:
        yield f"stacked, {rule.count} of them"
    if isinstance(rule.required, str):
        yield f"required if {rule.required}"
    elif callable(rule.required):
        yield "required by some configs"
    elif not rule.required:
        yield "optional"


def _in_block(name: str) -> str:
    return name.replace("{layer}", "N").replace("{expert}", "E")


def _status(known: ListedArchitecture) -> str:
    return "compared" if known.compared else "alike"
