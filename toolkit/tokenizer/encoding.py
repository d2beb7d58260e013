"""Encode text as the checkpoint's own tokenizer does, with the library that its files are made for."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from toolkit.errors import TokenizerError
from toolkit.json_files import read_bounded
from toolkit.tokenizer.files import decoder_added_tokens, open_tokenizer_files
from toolkit.tokenizer.sentencepiece_model import markers, sentencepiece_file
from toolkit.tokenizer.tekken import FILE as TEKKEN_FILE
from toolkit.tokenizer.tekken import open_tekken
from toolkit.tokenizer.tiktoken import merged_below
from toolkit.tokenizer.unigram import T5_FILES, XLM_ROBERTA_FILE

TOKENIZERS_FILE = "tokenizer.json"
_XLM_ROBERTA_UNKNOWN = 3


@dataclass(frozen=True)
class SourceEncoder:
    """A function from text to token ids, nothing added, and the file and library behind it."""

    origin: str
    encode: Callable[[str], list[int]]
    knows_added_tokens: bool
    """whether texts of added tokens become those tokens"""
    markers: Mapping[str, int] = field(default_factory=dict)
    """texts that are found in a text before it is split, and the one token that each becomes"""


def source_encoder(directory: Path, model: str) -> SourceEncoder | None:
    """Return the encoder of a checkpoint whose vocabulary became `model` of GGUF; None if no library reads its files.

    Raises TokenizerError if the library refuses the file.
    """
    trained = _trained_model(directory, model)
    if trained is not None:
        # sentencepiece knows nothing of the tokens that were added to its model
        return replace(_sentencepiece(trained), markers=_markers(directory))
    if (directory / TOKENIZERS_FILE).is_file():
        return _tokenizers(directory / TOKENIZERS_FILE)
    return _tekken(directory / TEKKEN_FILE) if (directory / TEKKEN_FILE).is_file() else None


def _markers(directory: Path) -> Mapping[str, int]:
    """Return the markers that the tokenizers library knows, or where it does not read the files, what they declare."""
    with suppress(TokenizerError):
        if (directory / TOKENIZERS_FILE).is_file():
            return _tokenizers(directory / TOKENIZERS_FILE).markers
    files = open_tokenizer_files(directory)
    return _without_white_space({token.text: token.id for token in (*decoder_added_tokens(files), *markers(files, {}))})


def _without_white_space(ids: dict[str, int]) -> dict[str, int]:
    """Return the markers without white space, which vocabularies spell in ways of their own."""
    return {text: index for text, index in ids.items() if "▁" not in text and not any(map(str.isspace, text))}


def _trained_model(directory: Path, model: str) -> Path | None:
    """Return the sentencepiece file that a vocabulary of this model of GGUF is read from, if there is one."""
    if model == "llama":
        return sentencepiece_file(directory)
    names = (*T5_FILES, XLM_ROBERTA_FILE) if model == "t5" else ()
    return next((directory / name for name in names if (directory / name).is_file()), None)


def _sentencepiece(path: Path) -> SourceEncoder:
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(read_bounded(path))
    except (RuntimeError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{path.name} is refused by sentencepiece") from error
    moved = path.name == XLM_ROBERTA_FILE

    def encode(text: str) -> list[int]:
        ids = list(processor.encode(text))
        return [index + 1 if index else _XLM_ROBERTA_UNKNOWN for index in ids] if moved else ids

    return SourceEncoder(f"{path.name} through sentencepiece", encode, False)


@contextmanager
def _asking_tokenizers(what: str) -> Iterator[None]:
    """Turn what the library raises into TokenizerError, also its panics, which are not derived from Exception."""
    try:
        yield
    except Exception as error:  # the library has no narrower error
        raise TokenizerError(f"{what} is refused by the tokenizers library: {error}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise TokenizerError(f"{what} is more than the tokenizers library can handle: {error}") from error


def _tokenizers(path: Path) -> SourceEncoder:
    from tokenizers import Tokenizer

    with _asking_tokenizers(path.name):
        tokenizer = Tokenizer.from_file(str(path))
    # Settings for batches of a training run, which say nothing of the text.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    added = {token.content: index for index, token in tokenizer.get_added_tokens_decoder().items()}

    def encode(text: str) -> list[int]:
        with _asking_tokenizers(path.name):
            return list(tokenizer.encode(text, add_special_tokens=False).ids)

    return SourceEncoder(f"{path.name} through tokenizers", encode, True, _without_white_space(added))


def _tekken(path: Path) -> SourceEncoder:
    """Return an encoder that joins bytes by rank, as tiktoken does for Mistral; the tokenizers library cuts the pieces."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    tekken = open_tekken(path)
    with _asking_tokenizers(f"{path.name}: its pattern"):
        pieces = Split(Regex(tekken.pattern), behavior="isolated")
    first, limit = len(tekken.special), len(tekken.ranks)

    def encode(text: str) -> list[int]:
        joined = (merged_below(tekken.ranks, piece.encode(), limit) for piece, _ in pieces.pre_tokenize_str(text))
        return [first + tekken.ranks[token] for tokens in joined for token in tokens]

    return SourceEncoder(f"{path.name} by rank", encode, False)
