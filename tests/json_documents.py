"""Documents against their schemas, more strictly than the schemas ask: a key that none names is an error here."""

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from toolkit.render.documents import document_schema


def check_printed(stdout: str | bytes | None) -> None:
    """Check a document that a command printed, if it printed one."""
    if not isinstance(stdout, str) or not stdout.startswith("{"):
        return
    try:
        document = json.loads(stdout)
    except ValueError:
        return
    check_document(document)


def check_document(document: Any) -> None:
    if not isinstance(document, dict) or not str(document.get("schema", "")).startswith("gguf-toolkit/"):
        return
    name = document["schema"].split("/")[1]
    found = [
        f"{error.json_path}: {error.message}" for error in validator(name).iter_errors(json.loads(json.dumps(document)))
    ]
    assert found == [], f"{name}: {found[:5]}"


@cache
def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(closed(document_schema(name)))


def closed(schema: Any) -> Any:
    """Return a schema whose objects allow the keys that it names and no others."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {key: closed(value) for key, value in schema.items()}
    if "properties" in parts and "additionalProperties" not in parts:
        parts["additionalProperties"] = False
    return parts
