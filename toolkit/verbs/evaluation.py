"""What the measuring verbs share: the text that is evaluated, and the error where logits are not finite."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import InputError, NotFiniteError, QualityError
from toolkit.gguf.reader import read_gguf
from toolkit.llama.bad_weights import find_bad_weights, suspicion
from toolkit.measures.chunks import chunks_together
from toolkit.measures.evaluation_text import DEMO, EvaluationText, as_chat, named_text
from toolkit.verbs.chat_templates import metadata_with_template
from toolkit.verbs.devices import PathName
from toolkit.verbs.loading import HowToLoad, LoadFields, how_to_load
from toolkit.verbs.values import Positive

N_CTX_SEQ = 512
"""llama-perplexity's default"""


@dataclass(frozen=True, kw_only=True)
class TextFields(LoadFields):
    """The fields of every request that measures on a text."""

    text: str | None = None
    """text file in UTF-8, `wikitext-2` (its test set, from the hub), or `demo` (Python's manual), which is the default"""
    as_chat: bool = False
    """take paragraphs as turns, in the model's own chat format"""
    chat_template: PathName | None = None
    """chat template in place of the model's own"""
    n_ctx_seq: Positive | None = None
    """tokens of a chunk; None is 512, or what saved logits have"""
    chunks: Positive | None = None
    """chunks to measure on; None is all of the text"""

    @property
    def chunk_tokens(self) -> int:
        """Return the tokens of a chunk."""
        return N_CTX_SEQ if self.n_ctx_seq is None else self.n_ctx_seq


@dataclass(frozen=True)
class TextIdentity:
    """What says whether two measurements may be compared."""

    name: str | None
    sha256: str | None
    is_chat: bool | None


def identity_of(text: EvaluationText | None) -> TextIdentity:
    """Return the identity of a text, of nothing where only its logits are at hand."""
    return TextIdentity(None, None, None) if text is None else TextIdentity(text.name, text.sha256, text.is_chat)


def evaluation_text(fields: TextFields, gguf: Path) -> EvaluationText:
    """Return the text that a request names, in the chat format of a model if it asks for that.

    Raises TextError or HubError if there is none, InputError for a chat template that is not used.
    """
    text = named_text(fields.text or DEMO)
    if not fields.as_chat:
        if fields.chat_template:
            raise InputError("--chat-template is of use with --as-chat only")
        return text
    return as_chat(text, metadata_with_template(read_gguf(gguf).metadata, fields.chat_template), gguf.name)


def load_for_chunks(
    fields: TextFields, n_ctx_seq: int, max_chunks: int | None, scored: range | None = None
) -> HowToLoad:
    """Return how to load a model for chunks of n_ctx_seq tokens, as many side by side as llama-perplexity takes.

    Logits are wanted at the positions `scored`, by default those of the second half.
    """
    return how_to_load(
        fields,
        n_parallel=chunks_together(n_ctx_seq, max_chunks),
        scored=scored if scored is not None else range(n_ctx_seq // 2, n_ctx_seq - 1),
    )


@contextmanager
def naming_bad_weights(paths: Sequence[Path]) -> Iterator[None]:
    """Where logits are not finite, raise NotFiniteError, which names the weights that may be why."""
    try:
        yield
    except QualityError as error:
        suspects = tuple(f"{path.name}: {name}" for path in paths for name in find_bad_weights(path))
        raise NotFiniteError(f"{error}{suspicion(suspects)}", suspects) from error
