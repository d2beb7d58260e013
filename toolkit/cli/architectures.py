"""List the architectures that convert, and those that are refused."""

from typing import Any

import click

from toolkit.cli.common import emit_json, json_option, note, show

COMPARED, ALIKE = "compared", "alike"
EXAMPLE = """
\b
Examples:
  gguf-toolkit architectures
  gguf-toolkit architectures gemma
  gguf-toolkit architectures --refused
  gguf-toolkit architectures --json
"""


@click.command(name="architectures", epilog=EXAMPLE)
@click.argument("text", required=False)
@click.option(
    "--refused", "shows_refused", is_flag=True, help="List the classes that are refused, each with the reason."
)
@json_option
def command(text: str | None, shows_refused: bool, as_json: bool) -> None:
    """List the architectures that convert: class and model type of config.json, and what llama.cpp calls them.

    Status "compared": every key and tensor of a checkpoint equals what llama.cpp's own converter makes of it; "alike": the
    rules are those of a class that was compared. With TEXT, only those whose family, class, model type or name contains it.
    """
    from toolkit.render.tables import table_lines

    known = [one for one in _known() if _mentions(one, text)]
    refused = [one for one in _refused() if _mentions(one, text)]
    if as_json:
        emit_json("architectures", {"architectures": known, "refused": refused})
        return
    if shows_refused:
        show(
            "architectures",
            table_lines(
                ("class in config.json", "refused because"), [(one["class"], one["reason"]) for one in refused]
            ),
        )
        return
    rows = [
        (one["family"], ", ".join(one["classes"]), ", ".join(one["model_types"]), one["name"], one["status"])
        for one in known
    ]
    show("architectures", table_lines(("family", "class in config.json", "model_type", "in llama.cpp", "status"), rows))
    if refused:
        note(f"{len(refused)} more classes that llama.cpp's converter knows are refused; --refused lists them")


def _known() -> list[dict[str, Any]]:
    from toolkit.architectures import architecture_families

    return [
        {
            "family": family,
            "name": known.name,
            "classes": list(known.hf_classes),
            "model_types": list(known.model_types),
            "rope_types": [name for name in known.rope_types if name != "local"],
            "status": _status(known.hf_classes),
        }
        for family, members in architecture_families().items()
        for known in members
    ]


def _status(classes: tuple[str, ...]) -> str:
    from toolkit.architectures.evidence import COMPARED as COMPARED_CLASSES

    return COMPARED if COMPARED_CLASSES.intersection(classes) else ALIKE


def _refused() -> list[dict[str, Any]]:
    from toolkit.architectures.evidence import REFUSED

    return [
        {"class": name, "reason": reason} for name, reason in sorted(REFUSED.items(), key=lambda one: one[0].lower())
    ]


def _mentions(one: dict[str, Any], text: str | None) -> bool:
    searched = [value for key, value in one.items() if key not in ("status", "reason", "rope_types")]
    words = " ".join(" ".join(value) if isinstance(value, list) else value for value in searched)
    return text is None or text.lower() in words.lower()
