"""List the architectures that convert."""

from typing import Any

import click

from toolkit.cli.common import emit_json, json_option

EXAMPLE = """
\b
Examples:
  gguf-toolkit architectures
  gguf-toolkit architectures gemma
  gguf-toolkit architectures --json
"""


@click.command(name="architectures", epilog=EXAMPLE)
@click.argument("text", required=False)
@json_option
def command(text: str | None, as_json: bool) -> None:
    """List the architectures that convert: class and model type of config.json, and what llama.cpp calls them.

    With TEXT, only those whose class, model type or name contains it.
    """
    from toolkit.cli.tables import print_table

    known = [one for one in _known() if _mentions(one, text)]
    if as_json:
        emit_json("architectures", {"architectures": known})
        return
    rows = [(", ".join(one["classes"]), ", ".join(one["model_types"]), one["name"]) for one in known]
    print_table(("class in config.json", "model_type", "in llama.cpp"), rows)


def _known() -> list[dict[str, Any]]:
    from toolkit.architectures import known_architectures

    listed: list[dict[str, Any]] = [
        {
            "name": known.name,
            "classes": list(known.hf_classes),
            "model_types": list(known.model_types),
            "rope_types": [name for name in known.rope_types if name != "local"],
        }
        for known in known_architectures()
    ]
    return sorted(listed, key=lambda one: str(one["classes"][0]).lower())


def _mentions(one: dict[str, Any], text: str | None) -> bool:
    searched = " ".join([one["name"], *one["classes"], *one["model_types"]])
    return text is None or text.lower() in searched.lower()
