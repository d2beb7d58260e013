"""GPT-2's spelling of bytes as letters: printable ones stand for themselves, the others for letters from U+0100 on."""

from functools import cache


@cache
def bytes_by_letter() -> dict[str, int]:
    """Return the byte that each of the 256 letters stands for."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


@cache
def _letters() -> tuple[str, ...]:
    letters = {byte: letter for letter, byte in bytes_by_letter().items()}
    return tuple(letters[byte] for byte in range(256))


def spelled(data: bytes) -> str:
    """Return bytes in the alphabet's letters."""
    letters = _letters()
    return "".join(letters[byte] for byte in data)
