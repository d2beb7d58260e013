"""What loaded models hold, and the text of a measurement, as parts of JSON documents."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from toolkit.errors import NotFiniteError
from toolkit.planning.load_plan import LoadedBytes
from toolkit.verbs.evaluation import TextIdentity


def devices_document(devices: Sequence[LoadedBytes]) -> list[dict[str, Any]]:
    """Return what each device was predicted to hold and holds."""
    return [asdict(device) for device in devices]


def text_document(text: TextIdentity) -> dict[str, Any]:
    """Return what says whether two measurements may be compared."""
    return {"text": text.name, "text_sha256": text.sha256, "as_chat": text.is_chat}


def not_finite_document(error: NotFiniteError, keys: Sequence[str]) -> dict[str, Any]:
    """Return the document of a measurement that gave no numbers: null under every key, and why."""
    return dict.fromkeys(keys) | {"error": str(error), "suspected_tensors": list(error.suspected_tensors)}
