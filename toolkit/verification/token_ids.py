"""Whether llama.cpp tokenizes text with the file as the source's own library does."""

import json
import unicodedata
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path

import numpy

import toolkit
from toolkit.differences import first_difference
from toolkit.errors import InputError
from toolkit.gguf.format import items
from toolkit.gguf.reader import GgufFile
from toolkit.llama.vocabulary import LlamaVocabulary
from toolkit.model_source import ModelSource
from toolkit.tokenizer.encoding import SourceEncoder, source_encoder
from toolkit.tokenizer.vocabulary import TOKENS
from toolkit.verification.check import Check, judged, listed, unknown

NAME, EXPECTED = "token ids", "those of the source's own tokenizer"
_TYPES = "tokenizer.ggml.token_type"
_NORMAL, _CONTROL = 1, 3
_REPLACEMENT = "\ufffd"
MOST_SPECIAL, MOST_RANDOM, _TRIES = 64, 64, 512
"""Special tokens that are tried one by one, texts of random tokens, and how many of those are drawn at most."""


@cache
def sample_texts() -> tuple[str, ...]:
    """Return sentences in many scripts, code, numbers, white space and signs."""
    path = Path(toolkit.__file__).parent / "data" / "text_sample.json"
    return tuple(json.loads(path.read_text(encoding="utf-8")))


def check_token_ids(source: ModelSource, path: Path, file: GgufFile) -> Check:
    """Return the check `token ids`; `path` is the checkpoint's directory or the GGUF file behind the source.

    The file must have loaded in a process of its own before: llama.cpp ends the process on some vocabularies.
    """
    try:
        with LlamaVocabulary(file.path) as vocabulary:
            if path.is_dir():
                return _against_library(source, path, vocabulary)
            with LlamaVocabulary(path) as other:
                encoder = SourceEncoder(f"{path.name} in llama.cpp", partial(other.tokenize, parse_special=True), True)
                return _compare(source, encoder, vocabulary)
    except InputError as error:
        return unknown(NAME, EXPECTED, str(error))


def _against_library(source: ModelSource, directory: Path, vocabulary: LlamaVocabulary) -> Check:
    model = source.metadata.get("tokenizer.ggml.model")
    encoder = source_encoder(directory, str(model.value) if model else "")
    if encoder is None:
        why = (
            "the source has no tokenizer.model, tokenizer.json or tekken.json, so there is nothing to encode text with"
        )
        return unknown(NAME, EXPECTED, why)
    return _compare(source, encoder, vocabulary)


def _compare(source: ModelSource, encoder: SourceEncoder, vocabulary: LlamaVocabulary) -> Check:
    texts = (*sample_texts(), *random_texts(source, vocabulary))
    if encoder.knows_added_tokens:
        texts += tuple(
            str(items(source.metadata, TOKENS)[index]) for index in _of_type(source, _CONTROL)[:MOST_SPECIAL]
        )
    expected_ids = {text: encoder.encode(text) for text in texts} | _markers(encoder, vocabulary)
    different = [
        Difference(text, expected, found)
        for text, expected in expected_ids.items()
        if expected != (found := vocabulary.tokenize(text, parse_special=True))
    ]
    evidence = f"{len(expected_ids)} texts, {encoder.origin}"
    if different:
        evidence = f"{different[0].describe()}; {evidence}"
    observed = f"{len(different)} of {len(expected_ids)} texts differ" if different else "equal"
    return judged(NAME, not different, EXPECTED, observed, evidence)


def _markers(encoder: SourceEncoder, vocabulary: LlamaVocabulary) -> dict[str, list[int]]:
    """Return texts that must become one token, and that token; those without a row in the embedding are left out."""
    known = {text: [index] for text, index in encoder.markers.items() if index < vocabulary.n_tokens}
    return dict(islice(known.items(), MOST_SPECIAL))


def random_texts(source: ModelSource, vocabulary: LlamaVocabulary) -> tuple[str, ...]:
    """Return texts of a few random tokens each, which touch merges that no sentence has."""
    # llama.cpp ends the process over an id that the file does not have.
    ids = [index for index in _of_type(source, _NORMAL) if index < vocabulary.n_tokens]
    draw = numpy.random.default_rng(0)
    if not ids:
        return ()
    texts: list[str] = []
    for _ in range(_TRIES):
        drawn = draw.integers(0, len(ids), int(draw.integers(2, 7)))
        text = vocabulary.detokenize([ids[index] for index in drawn])
        # Some tokenizers normalize text, llama.cpp does not.
        if text and _REPLACEMENT not in text and unicodedata.is_normalized("NFKC", text):
            texts.append(text)
    return tuple(texts[:MOST_RANDOM])


def _of_type(source: ModelSource, type_: int) -> list[int]:
    return [index for index, stored in enumerate(items(source.metadata, _TYPES)) if stored == type_]


@dataclass(frozen=True)
class Difference:
    """A text that is tokenized in two ways."""

    text: str
    expected: list[int]
    found: list[int]

    def describe(self) -> str:
        """Return the first place where they differ."""
        at = first_difference(self.expected, self.found) or 0
        shown, other = (listed([str(index) for index in ids[at:]], 4) for ids in (self.expected, self.found))
        return f"in {self.text[:40]!r} from token {at} on: {other or 'nothing'} instead of {shown or 'nothing'}"
