"""Whether llama.cpp splits text with the file as the source's own library does with the source."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import toolkit
from toolkit.errors import InputError
from toolkit.gguf_reader import GgufFile
from toolkit.llama_vocabulary import LlamaVocabulary
from toolkit.model_source import ModelSource
from toolkit.tokenizer.encoding import SourceEncoder, source_encoder
from toolkit.verify.check import Check, judged, listed, unknown
from toolkit.verify.vocabulary import TOKENS, items

NAME, EXPECTED = "token ids", "those of the source's own tokenizer"
_TYPES = "tokenizer.ggml.token_type"
_CONTROL = 3
MOST_SPECIAL = 64
"""Special tokens that are tried one by one."""


@cache
def sample_texts() -> tuple[str, ...]:
    """Return sentences in many scripts, code, numbers, white space and signs."""
    path = Path(toolkit.__file__).parent / "data" / "text_sample.json"
    return tuple(json.loads(path.read_text(encoding="utf-8")))


def check_token_ids(source: ModelSource, origin: Path, file: GgufFile) -> Check:
    """Return the check `token ids`; `origin` is the checkpoint's directory or the GGUF file behind the source.

    The file must have loaded in a process of its own before: llama.cpp ends the process on some vocabularies.
    """
    try:
        with LlamaVocabulary(file.path) as vocabulary:
            if origin.is_dir():
                return _against_library(source, origin, vocabulary)
            with LlamaVocabulary(origin) as other:
                return _compared(
                    lambda text: other.tokenize(text, parse_special=True), vocabulary, f"{origin.name} in llama.cpp"
                )
    except InputError as error:
        return unknown(NAME, EXPECTED, str(error))


def _against_library(source: ModelSource, directory: Path, vocabulary: LlamaVocabulary) -> Check:
    model = source.metadata.get("tokenizer.ggml.model")
    encoder = source_encoder(directory, str(model.value) if model else "")
    if encoder is None:
        return unknown(
            NAME, EXPECTED, "the source has neither tokenizer.model nor tokenizer.json, which a library could read"
        )
    specials = _specials(source, encoder)
    return _compared(encoder.encode, vocabulary, encoder.origin, specials)


def _specials(source: ModelSource, encoder: SourceEncoder) -> tuple[str, ...]:
    """Return the texts of special tokens, where the library knows them."""
    if not encoder.knows_added_tokens:
        return ()
    pairs = zip(items(source.metadata, TOKENS), items(source.metadata, _TYPES), strict=True)
    return tuple(str(text) for text, type_ in pairs if type_ == _CONTROL)[:MOST_SPECIAL]


def _compared(
    encode: Callable[[str], list[int]], vocabulary: LlamaVocabulary, origin: str, specials: Sequence[str] = ()
) -> Check:
    different = [
        Difference(text, *pair)
        for text in (*sample_texts(), *specials)
        if (pair := (encode(text), vocabulary.tokenize(text, parse_special=True)))[0] != pair[1]
    ]
    count = len(sample_texts()) + len(specials)
    evidence = f"{count} texts, {origin}"
    if different:
        evidence = f"{different[0].described()}; {evidence}"
    return judged(
        NAME, not different, EXPECTED, f"{len(different)} of {count} texts differ" if different else "equal", evidence
    )


@dataclass(frozen=True)
class Difference:
    """A text that is split in two ways."""

    text: str
    expected: list[int]
    found: list[int]

    def described(self) -> str:
        """Return the place where the two part."""
        at = next((i for i, (a, b) in enumerate(zip(self.expected, self.found, strict=False)) if a != b), 0)
        shown, other = (listed([str(index) for index in ids[at:]], 4) for ids in (self.expected, self.found))
        return f"in {self.text[:40]!r} from token {at} on: {other or 'nothing'} instead of {shown or 'nothing'}"
