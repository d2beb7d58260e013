"""Check a GGUF file against the source that it was made of, one property after the other.

The file is read back and the source is read anew. Text is tokenized by the library that the source's tokenizer was
made for and by llama.cpp; conversations are rendered from both chat templates; weights are compared as numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from toolkit.gguf.reader import GgufFile, read_gguf
from toolkit.machine.mapped_files import as_mapped, unchanged
from toolkit.model_source import ModelSource
from toolkit.reporter import SILENT_TASK, Task
from toolkit.verification.architecture import check_architecture
from toolkit.verification.chat import check_chat_templates
from toolkit.verification.check import Check, Outcome, unknown
from toolkit.verification.running import LOGITS, check_first_logits, check_loading, skipped
from toolkit.verification.tensors import check_tensors
from toolkit.verification.token_ids import EXPECTED, NAME, check_token_ids
from toolkit.verification.vocabulary import check_vocabulary
from toolkit.verification.weights import check_weights

__all__ = ["Check", "Outcome", "Reference", "VerifyOptions", "run_checks"]


@dataclass(frozen=True)
class Reference:
    """What a file is checked against: the model that it was made of, and the directory or GGUF file of that."""

    model: ModelSource
    path: Path


@dataclass(frozen=True)
class VerifyOptions:
    """How much is compared."""

    full: bool = False
    """all rows instead of a sample"""
    run: bool = True
    """load the model and evaluate a few tokens"""
    task: Task = SILENT_TASK
    """advances with the tensors whose weights are compared"""


def run_checks(path: Path, reference: Reference, options: VerifyOptions | None = None) -> tuple[Check, ...]:
    """Return all checks of a GGUF file against its source.

    Raises GgufError if the file cannot be read, InputError if it or the source changes meanwhile.
    """
    file = read_gguf(path)
    with unchanged((*as_mapped(file.paths), *reference.model.files)):
        return tuple(_checks(file, reference, options or VerifyOptions()))


def _checks(file: GgufFile, reference: Reference, options: VerifyOptions) -> Iterator[Check]:
    source = reference.model
    yield from check_tensors(source, file)
    yield check_architecture(source, file)
    yield from check_vocabulary(source, file)
    yield check_chat_templates(source, file)
    yield from check_weights(source, file, full=options.full, progress=options.task.advance)
    loads = check_loading(file)
    yield loads
    if loads.outcome is not Outcome.PASS:
        yield unknown(NAME, EXPECTED, "llama.cpp does not take the file")
        yield skipped(LOGITS, "llama.cpp does not take the file")
        return
    yield check_token_ids(source, reference.path, file)
    yield check_first_logits(file) if options.run else skipped(LOGITS, "--no-run was given")
