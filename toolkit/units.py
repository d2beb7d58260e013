"""Read and print sizes, counts and rates."""

import re

from toolkit.errors import InputError

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_COUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([km]?)", re.IGNORECASE)
_SIZE_FACTORS = {"": 1, "k": KIB, "m": MIB, "g": GIB, "t": TIB}
_COUNT_FACTORS = {"": 1, "k": 1 << 10, "m": 1 << 20}


def parse_size(text: str) -> int:
    """Return bytes for `8GiB`, `8G`, `8192MiB`, `0`; every prefix is a power of 1024.

    Raises InputError if the text is no size, or a few bytes where the unit was left out.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{text!r} is not a size; write it as 8GiB, 8G or 8192MiB")
    n_bytes = round(float(match[1]) * _SIZE_FACTORS[match[2].lower()])
    if 0 < n_bytes < MIB and match[0].strip() == match[1]:
        unit = "GiB" if n_bytes < KIB else "MiB"
        raise InputError(f"{text!r} has no unit, which makes it {format_size(n_bytes)}; did you mean {match[1]}{unit}?")
    return n_bytes


def parse_count(text: str) -> int:
    """Return a number of tokens for `4096`, `16k` (16,384) or `1m`.

    Raises InputError if the text is no count, or a count of nothing.
    """
    match = _COUNT.fullmatch(text.strip())
    count = round(float(match[1]) * _COUNT_FACTORS[match[2].lower()]) if match else 0
    if count < 1:
        raise InputError(f"{text!r} is not a number of tokens; write it as 4096 or 16k")
    return count


def format_size(n_bytes: int) -> str:
    """Return bytes as a person reads them: `812 B`, `4.92 GiB`."""
    if abs(n_bytes) < KIB:
        return f"{n_bytes} B"
    for unit, factor in (("KiB", KIB), ("MiB", MIB), ("GiB", GIB)):
        if abs(n_bytes) < factor * 1000:
            return f"{n_bytes / factor:.{_decimals(n_bytes / factor)}f} {unit}"
    return f"{n_bytes / TIB:.2f} TiB"


def format_count(count: int) -> str:
    """Return a count with thousands separators: `128,256`."""
    return f"{count:,}"


def format_duration(seconds: float) -> str:
    """Return `0.4 s`, `12 s` or `3 min 05 s`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def _decimals(value: float) -> int:
    return 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
