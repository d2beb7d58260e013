"""Hold a GGUF file against the source that it was made of: one check after the other, nothing assumed.

The file is read back and the source is read anew. Text goes through the library that the source's tokenizer is made
for and through llama.cpp; conversations go through both templates; weights are compared as numbers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from toolkit.gguf.reader import GgufFile, read_gguf
from toolkit.machine.mapped_files import as_mapped, unchanged
from toolkit.model_source import ModelSource
from toolkit.verify.architecture import check_architecture
from toolkit.verify.chat import check_chat_templates
from toolkit.verify.check import Check, Outcome, Verification, unknown
from toolkit.verify.running import LOGITS, check_first_logits, check_loading, skipped
from toolkit.verify.tensors import check_tensors
from toolkit.verify.token_ids import EXPECTED, NAME, check_token_ids
from toolkit.verify.vocabulary import check_vocabulary
from toolkit.verify.weights import check_weights

__all__ = ["Check", "Origin", "Outcome", "Verification", "VerifyOptions", "verify"]


@dataclass(frozen=True)
class Origin:
    """What a file was made of: the model, and the directory or GGUF file that it stands in."""

    model: ModelSource
    path: Path


@dataclass(frozen=True)
class VerifyOptions:
    """How much is looked at."""

    full: bool = False
    """all rows instead of a sample"""
    run: bool = True
    """load the model and evaluate a few tokens"""
    progress: Callable[[int], None] = lambda _tensors: None
    """called with the number of tensors whose weights were compared since the last call"""


def verify(path: Path, origin: Origin, options: VerifyOptions | None = None) -> Verification:
    """Return all checks of a GGUF file against its source.

    Raises GgufError if the file cannot be read, InputError if it or the source changes meanwhile.
    """
    file = read_gguf(path)
    with unchanged((*as_mapped(file.paths), *origin.model.files)):
        return Verification(tuple(_checks(file, origin, options or VerifyOptions())))


def _checks(file: GgufFile, origin: Origin, options: VerifyOptions) -> Iterator[Check]:
    source = origin.model
    yield from check_tensors(source, file)
    yield check_architecture(source, file)
    yield from check_vocabulary(source, file)
    yield check_chat_templates(source, file)
    yield from check_weights(source, file, full=options.full, progress=options.progress)
    loads = check_loading(file)
    yield loads
    if loads.outcome is not Outcome.PASS:
        yield unknown(NAME, EXPECTED, "llama.cpp does not take the file")
        yield skipped(LOGITS, "llama.cpp does not take the file")
        return
    yield check_token_ids(source, origin.path, file)
    yield check_first_logits(file) if options.run else skipped(LOGITS, "--no-run was given")
