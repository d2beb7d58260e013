"""Damage for files: bytes, numbers at their limits, keys, types and depths, all drawn from one seeded generator."""

import json
import re
import struct
from collections.abc import Callable
from random import Random
from typing import Any

INTEGERS = (
    0, 1, -1, 2, 7, 127, 128, 255, 256, 512, 513, 65535, 65536, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32,
    1 << 53, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, -128, -(1 << 31), -(1 << 63), 10**39,
)  # fmt: skip
RAW = (
    "1e400",
    "-1e400",
    "NaN",
    "Infinity",
    "-Infinity",
    "1" * 5000,
    "[" * 3000 + "]" * 3000,
    '{"a":' * 900 + "1" + "}" * 900,
)
"""JSON that no Python value is written as"""
ODD: tuple[Any, ...] = (
    *INTEGERS, 0.5, -0.0, 1.0, 64.0, 128.5, 1e308, -1e308, 5e-324, 3.5e38, True, False, None, "", "a", "0", "-1", "64", "no",
    "\ud800", "\udc80", "\0", "\n", "\x1b[31m", "../../x", "/etc/passwd", "a" * 5000, "é" * 300, "(a+)+$", "re:(a+)+$", "{layer}",
    "%s", [], {}, [[]], [None], [0], [-1], ["a"], [1 << 63], {"": 0}, {"a": {"b": [1]}}, [1.5] * 600,
)  # fmt: skip
WORDS = (
    b"", b"0", b"-1", b"1e400", b"nan", b"18446744073709551616", b"true", b"no", b"[[a]]", b"[", b"{", b'"', b"'''", b"!!bool x",
    b"&a *a", b"---", b"#", b"\0", b"\xff", b"\x1b[31m", b"2024-02-30", b"= = =", b"a" * 3000, b"(a+)+$", b"\xed\xa0\x80",
)  # fmt: skip
_WORD = re.compile(rb"[\w.+/-]+")


def damaged(name: str, data: bytes, random: Random) -> bytes:
    """Return the contents of a file with a few things wrong, as its name lets one expect."""
    if random.random() < 0.06:
        return damaged_bytes(data, random)
    if name.endswith(".json"):
        return damaged_json(data, random)
    if name.endswith(".safetensors"):
        return _damaged_safetensors(data, random)
    text = name.endswith((".toml", ".md", ".txt", ".tiktoken", "tiktoken.model"))
    return damaged_text(data, random) if text else damaged_bytes(data, random)


def damaged_bytes(data: bytes, random: Random) -> bytes:
    """Return bytes with flips, cuts, repeats and numbers at their limits."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 3, 8))):
        random.choice(_ON_BYTES)(changed, random)
    return bytes(changed)


def damaged_text(data: bytes, random: Random) -> bytes:
    """Return a text with words replaced and lines moved."""
    for _ in range(random.choice((1, 1, 2, 3))):
        data = random.choice((_other_word, _other_word, _other_line, damaged_bytes))(data, random)
    return data


def damaged_json(data: bytes, random: Random) -> bytes:
    """Return a document with values of other types, keys left out or made up, and text that is no JSON."""
    document = json.loads(data)
    raw: list[str] = []
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        document = _other_value(document, random, raw)
    text = json.dumps(document, ensure_ascii=random.random() < 0.5)
    for index, spelled in enumerate(raw):
        text = text.replace(f'"@{index}@"', spelled)
    encoded = text.encode("utf-8", "surrogatepass")
    return damaged_bytes(encoded, random) if random.random() < 0.1 else encoded


def _damaged_safetensors(data: bytes, random: Random) -> bytes:
    if random.random() < 0.2:
        return damaged_bytes(data, random)
    length = struct.unpack("<Q", data[:8])[0]
    header = damaged_json(data[8 : 8 + length], random)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def _other_value(document: Any, random: Random, raw: list[str]) -> Any:
    holder, key = _place(document, random)
    if holder is None:
        return _odd(random, raw)
    choice = random.random()
    if choice < 0.2:
        del holder[key]
    elif choice < 0.3 and isinstance(holder, dict):
        holder[random.choice(("", "a", "\ud800", "x" * 300, f"{key}.0", str(key).upper()))] = holder.pop(key)
    elif choice < 0.4:
        other, place = _place(document, random)
        holder[key] = holder[key] if other is None else json.loads(json.dumps(other[place]))
    else:
        holder[key] = _odd(random, raw)
    return document


def _place(document: Any, random: Random) -> tuple[Any, Any]:
    """Return a container within a document and a key of it; None where there is none. Higher ones are more likely."""
    found: tuple[Any, Any] = (None, None)
    inner = document
    while isinstance(inner, dict | list) and inner:
        key = random.choice(list(inner)) if isinstance(inner, dict) else random.randrange(len(inner))
        found = inner, key
        inner = inner[key]
        if random.random() < 0.35:
            break
    return found


def _odd(random: Random, raw: list[str]) -> Any:
    if random.random() < 0.12:
        raw.append(random.choice(RAW))
        return f"@{len(raw) - 1}@"
    value = random.choice(ODD)
    return json.loads(json.dumps(value)) if isinstance(value, dict | list) else value


def _at(data: bytearray, random: Random) -> int:
    """Return a place, of which those near the beginning are likelier: headers lie there."""
    return int(len(data) * random.random() ** random.choice((1, 3, 6)))


def _flip(data: bytearray, random: Random) -> None:
    if data:
        data[_at(data, random)] ^= 1 << random.randrange(8)


def _number(data: bytearray, random: Random) -> None:
    width = random.choice((1, 2, 4, 4, 8, 8))
    at = _at(data, random)
    data[at : at + width] = (random.choice(INTEGERS) & ((1 << 8 * width) - 1)).to_bytes(width, "little")


def _cut(data: bytearray, random: Random) -> None:
    del data[_at(data, random) :]


def _leave_out(data: bytearray, random: Random) -> None:
    at = _at(data, random)
    del data[at : at + random.choice((1, 2, 4, 8, 64))]


def _again(data: bytearray, random: Random) -> None:
    at = _at(data, random)
    data[at:at] = data[at : at + random.choice((1, 4, 8, 64))]


def _insert(data: bytearray, random: Random) -> None:
    at = _at(data, random)
    data[at:at] = random.randbytes(random.choice((1, 2, 8)))


_ON_BYTES: tuple[Callable[[bytearray, Random], None], ...] = (
    _flip,
    _flip,
    _number,
    _number,
    _number,
    _cut,
    _leave_out,
    _again,
    _insert,
)


def _other_word(data: bytes, random: Random) -> bytes:
    words = list(_WORD.finditer(data, 0, 20_000))
    if not words:
        return random.choice(WORDS)
    word = random.choice(words)
    other = random.choice((random.choice(WORDS), random.choice(words)[0]))
    return data[: word.start()] + other + data[word.end() :]


def _other_line(data: bytes, random: Random) -> bytes:
    lines = data.split(b"\n")
    at = random.randrange(len(lines))
    match random.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, random.choice(lines))
        case 2:
            lines[at] = random.choice(WORDS) + lines[at]
        case _:
            lines[at] = b" " * random.choice((1, 4)) + lines[at]
    return b"\n".join(lines)
