"""The settings of a sentencepiece model that its library does not tell: a reader for the few fields of the file that say them.

The file is a protocol buffer (sentencepiece's src/sentencepiece_model.proto): fields are a number and a value, values here are
variable-length integers or bytes; a field that stands twice counts as it stands last.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_TRAINER, _NORMALIZER = 2, 3
_MODEL_TYPE = 3
_CHARSMAP, _DUMMY_PREFIX, _EXTRA_WHITESPACES = 2, 3, 4
_UNIGRAM = 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class SentencePieceSettings:
    """How text is brought into form before it is split, and by what kind of model."""

    is_unigram: bool
    adds_space_prefix: bool
    removes_extra_whitespaces: bool
    precompiled_charsmap: bytes
    """sentencepiece's own table of replacements of letters; empty if there is none"""


def read_settings(model: bytes) -> SentencePieceSettings:
    """Return the settings of a serialized model.

    Raises ValueError if the bytes are no protocol buffer.
    """
    parts = dict(_fields(model))
    trainer, normalizer = (dict(_fields(_bytes(parts.get(number)))) for number in (_TRAINER, _NORMALIZER))
    return SentencePieceSettings(
        is_unigram=trainer.get(_MODEL_TYPE, _UNIGRAM) == _UNIGRAM,
        adds_space_prefix=bool(normalizer.get(_DUMMY_PREFIX, True)),
        removes_extra_whitespaces=bool(normalizer.get(_EXTRA_WHITESPACES, True)),
        precompiled_charsmap=_bytes(normalizer.get(_CHARSMAP)),
    )


def _bytes(value: int | bytes | None) -> bytes:
    return value if isinstance(value, bytes) else b""


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        kind = key & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, position = _varint(data, position)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"a field of kind {kind} at byte {position}")
        if position + length > len(data):
            raise ValueError(f"the field at byte {position} ends beyond the file")
        yield key >> 3, data[position : position + length]
        position += length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[position : position + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise ValueError(f"no integer at byte {position}")
