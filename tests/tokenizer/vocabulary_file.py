"""A GGUF file that holds a vocabulary only, and llama.cpp's tokens of a text with it."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from toolkit.gguf.format import Metadata, string
from toolkit.gguf.layout import lay_out
from toolkit.llama import native
from toolkit.llama.log import llama_log

SAMPLE = (
    "I'll say: the café's 12345 naïve façades, 3.14159 — don't YOU'RE?!\n\n\tif (x >= 10) { return x_y[3]; }  \n"
    "Größe über alles; Быстрая лиса 007; 我想在apple工作1314151天～ 日本語のテキスト。 안녕하세요 세계\n   \n"  # noqa: RUF001
    "العربية १२३ 🚀🦙  ------======= !!!???   trailing   "
)


def write_vocabulary(path: Path, metadata: Metadata) -> Path:
    path.write_bytes(lay_out({"general.architecture": string("llama")} | metadata, ()).header)
    return path


@contextlib.contextmanager
def loaded_vocabulary(path: Path) -> Iterator[Any]:
    llama = native.llama_cpp()
    # llama-cpp-python's own receiver fails on lines that llama.cpp cuts inside a letter.
    llama_log()
    parameters = llama.llama_model_default_params()
    parameters.vocab_only = True
    model = llama.llama_model_load_from_file(str(path).encode(), parameters)
    assert model, f"llama.cpp does not load {path.name}"
    try:
        yield llama.llama_model_get_vocab(model)
    finally:
        llama.llama_model_free(model)


def llama_ids(path: Path, text: str) -> list[int]:
    """Return llama.cpp's tokens of a text in which special tokens are understood, without BOS and EOS."""
    return ids_of_texts(path, [text], parse_special=True)[0]


def ids_of_texts(path: Path, texts: Sequence[str], *, parse_special: bool = False) -> list[list[int]]:
    """Return llama.cpp's tokens of each text, without BOS and EOS."""
    llama = native.llama_cpp()
    found = []
    with loaded_vocabulary(path) as vocabulary:
        for text in texts:
            data = text.encode("utf-8")
            buffer = (llama.llama_token * (len(data) + 8))()
            count = llama.llama_tokenize(vocabulary, data, len(data), buffer, len(buffer), False, parse_special)
            found.append(list(buffer[:count]))
    return found
