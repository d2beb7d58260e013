"""Text of strangers, made fit to be shown: names, tokens and messages that files bring along must not steer who reads them."""

import re

_STEERING = re.compile(
    # Control characters and the escapes that terminals take, lines that end in other ways, directions of writing, and what
    # stands for bytes that are no UTF-8.
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str, keep: str = "") -> str:
    """Return text with every character that steers a terminal or a line written as an escape, but those to `keep`."""
    return _STEERING.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)


def steers(text: str) -> bool:
    """Tell whether a text has characters that `visible` writes as escapes."""
    return _STEERING.search(text) is not None


def visible_json(document: str) -> str:
    """Return a JSON document that says the same with escapes; the line ends of its layout stay."""
    return _STEERING.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", document)
