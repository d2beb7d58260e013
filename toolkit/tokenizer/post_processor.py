"""What the post_processor of tokenizer.json puts around a text: BOS, EOS, a separator.

Only simple templates are understood, the way SpecialVocab of llama.cpp's gguf/vocab.py reads them: the first and the
last element of one text, and what stands between two.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from toolkit.tokenizer.files import ROLES

Step = Mapping[str, Any]


@dataclass
class Roles:
    """Which text plays which role, and which roles are added to a text; filled in file by file."""

    texts: dict[str, str]
    declared: bool
    """whether there is a tokenizer_config.json; without one the template itself says which token is BOS or EOS"""
    names: list[str] = field(default_factory=lambda: list(ROLES))
    adds: dict[str, bool] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def plays(self, text: str | None, *names: str) -> bool:
        """Tell whether a text plays one of the named roles."""
        return text is not None and text in [self.texts.get(name) for name in names]


def apply_post_processor(roles: Roles, post_processor: Any) -> None:
    """Fill in `roles` from the post_processor of tokenizer.json."""
    if not isinstance(post_processor, dict):
        return
    _share_roles(roles)
    steps = post_processor.get("processors")
    for step in steps if isinstance(steps, list) else [post_processor]:
        kind = step.get("type") if isinstance(step, dict) else None
        if kind == "ByteLevel":
            roles.adds.setdefault("bos", False)
            roles.adds.setdefault("eos", False)
        elif kind == "RobertaProcessing":
            _apply_roberta(roles, step)
        elif kind == "TemplateProcessing":
            _apply_template(roles, _elements(step, "single"), _elements(step, "pair"))


def _share_roles(roles: Roles) -> None:
    for role, other in (("bos", "cls"), ("eos", "sep")):
        if role not in roles.texts and other in roles.texts:
            roles.texts[role] = roles.texts[other]


def _apply_roberta(roles: Roles, step: Step) -> None:
    roles.adds |= {"bos": True, "eos": True, "sep": True}
    for role in ("cls", "sep"):
        named = step.get(role)
        if isinstance(named, list) and named and isinstance(named[0], str):
            roles.texts.setdefault(role, named[0])


def _apply_template(roles: Roles, single: list[Step], pair: list[Step]) -> None:
    first = _special(single[0]) if len(single) > 1 else None
    last = _special(single[-1]) if len(single) > 1 else None
    if first:
        _apply_first(roles, first)
    if last:
        _apply_last(roles, last)
    _apply_pair(roles, _between(pair, first, last), last)


def _apply_first(roles: Roles, first: str) -> None:
    if not roles.declared:
        roles.texts["bos"] = first
    elif not roles.plays(first, "bos", "cls"):
        roles.texts.setdefault("bos", first)
        roles.texts.setdefault("cls", first)
    roles.adds["bos"] = roles.plays(first, "bos", "cls")
    if not roles.adds["bos"]:
        roles.warnings.append(f"tokenizer.json puts {first!r} before every text, which is neither BOS nor CLS")


def _apply_last(roles: Roles, last: str) -> None:
    if roles.declared and not roles.plays(last, "eos"):
        _demote_eos(roles, last)
    roles.texts["eos"] = last
    roles.adds["eos"] = True


def _demote_eos(roles: Roles, last: str) -> None:
    """Keep the EOS of tokenizer_config.json as end of turn or of message when the template ends with another token."""
    former = roles.texts.get("eos")
    role = next((role for role in ("eot", "eom") if role not in roles.names), None)
    if role is None:
        roles.warnings.append(f"tokenizer.json ends every text with {last!r}, which replaces the EOS token {former!r}")
        return
    roles.names.append(role)
    if former:
        roles.texts[role] = former


def _between(pair: list[Step], first: str | None, last: str | None) -> list[Step]:
    """Return what a pair's template has between its two texts, or nothing where it is not that simple."""
    start = 1 if pair and first and _special(pair[0]) == first else 0
    stop = len(pair) - 1 if pair and last and _special(pair[-1]) == last else len(pair)
    inner = pair[start:stop]
    if not inner or (_sequence(inner[0]), _sequence(inner[-1])) != ("A", "B"):
        return []
    return inner[1:-1]


def _apply_pair(roles: Roles, between: list[Step], last: str | None) -> None:
    if not between:
        return
    adds = roles.plays(_special(between[0]), "sep", "eos") and not last
    if len(between) == 2:
        adds = adds or roles.plays(_special(between[1]), "sep", "eos")
    roles.adds["sep"] = adds
    if adds and "eos" in roles.texts:
        roles.texts.setdefault("sep", roles.texts["eos"])


def _elements(step: Step, key: str) -> list[Step]:
    elements = step.get(key)
    return [element for element in elements if isinstance(element, dict)] if isinstance(elements, list) else []


def _special(element: Step) -> str | None:
    entry = element.get("SpecialToken")
    text = entry.get("id") if isinstance(entry, dict) else None
    return text if isinstance(text, str) else None


def _sequence(element: Step) -> str | None:
    entry = element.get("Sequence")
    return entry.get("id") if isinstance(entry, dict) else None
