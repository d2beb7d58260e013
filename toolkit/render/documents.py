"""JSON documents: the keys that every one carries, and the schema of each, which is a contract.

Every quantity has one name over all documents; `schemas/common.json` says what each means. From one version to the next,
keys are added, never renamed and never removed.
"""

import json
import math
from importlib import resources
from typing import Any

from toolkit import __version__
from toolkit.errors import InputError
from toolkit.machine.host import installed_version

VERSION = 2
_COMMON = "common"


def whole_document(name: str, content: dict[str, Any]) -> dict[str, Any]:
    """Return a document with the keys that every one carries; NaN and infinities become null."""
    envelope = {
        "schema": f"gguf-toolkit/{name}/{VERSION}",
        "toolkit_version": __version__,
        "llama_cpp_python_version": installed_version("llama-cpp-python"),
    }
    whole: dict[str, Any] = _finite(envelope | content)
    return whole


def document_names() -> list[str]:
    """Return the names of all documents."""
    files = (resources.files(__package__) / "schemas").iterdir()
    names = (file.name.removesuffix(".json") for file in files if file.name.endswith(".json"))
    return sorted(set(names) - {_COMMON})


def document_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of a document, complete in itself.

    Raises InputError if there is no such document.
    """
    if name not in document_names():
        raise InputError(f"there is no document {name!r}; documents are {', '.join(document_names())}")
    schema, common = _load(name), _load(_COMMON)["$defs"]
    text = json.dumps(schema)
    needed = [key for key in common if f'"{_COMMON}.json#/$defs/{key}"' in text]
    definitions: dict[str, Any] = {}
    while needed:
        key = needed.pop()
        definitions[key] = common[key]
        inside = json.dumps(common[key])
        needed += [other for other in common if f'"#/$defs/{other}"' in inside and other not in definitions]
    complete: dict[str, Any] = json.loads(text.replace(f'"{_COMMON}.json#/$defs/', '"#/$defs/'))
    return complete | {"$defs": dict(sorted(definitions.items()))}


def _load(name: str) -> dict[str, Any]:
    path = resources.files(__package__) / "schemas" / f"{name}.json"
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
