"""Find the weights of a GGUF file that are not finite, which is why a model's logits are not."""

import ctypes
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from toolkit.gguf.reader import read_gguf
from toolkit.gguf.rows import StoredRows
from toolkit.llama.log import llama_log
from toolkit.llama.native import base

_NAMED = 3


def find_bad_weights(path: Path) -> Iterator[str]:
    """Yield the names of the tensors that ggml finds NaN or infinite values in.

    Raises GgufError if the file is damaged.
    """
    llama_log().divert()  # ggml says on its log what it found; the names are enough here.
    for name, rows in read_gguf(path).tensors.items():
        if not _is_valid(rows):
            yield name


def suspicion(suspects: Iterable[str]) -> str:
    """Return the end of a message about logits that are not finite: the first of the weights that may be why, if any."""
    named = list(islice(suspects, _NAMED))
    return f"; suspected: {', '.join(named)}" if named else ""


def _is_valid(rows: StoredRows) -> bool:
    pointer = rows.data.ctypes.data_as(ctypes.c_void_p)
    return bool(base().ggml_validate_row_data(rows.type.ggml_id, pointer, rows.data.nbytes))
