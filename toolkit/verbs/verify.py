"""`verify`: hold a GGUF file against the checkpoint or GGUF file that it was made of."""

from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Literal

from toolkit.gguf.reader import read_gguf
from toolkit.reporter import Reporter
from toolkit.sources.gguf_source import source_from_gguf
from toolkit.sources.hf_source import source_from_checkpoint
from toolkit.sources.pooling import NAMES as DENSE_NAMES
from toolkit.verbs.chat_templates import use_chat_template
from toolkit.verbs.devices import PathName
from toolkit.verbs.model_names import is_gguf, report_warnings, resolve_source
from toolkit.verbs.verb import verb
from toolkit.verification import Check, Reference, VerifyOptions, run_checks


@dataclass(frozen=True)
class VerifyRequest:
    """A GGUF file, what it should have been made of, and how much is compared."""

    gguf: Path | str
    _: KW_ONLY
    source: str
    """directory, model on the hub, `demo`, or GGUF file"""
    full: bool = False
    """compare all rows of every tensor instead of a sample"""
    run: bool = True
    """load the model, and compare its first logits"""
    chat_template: PathName | None = None
    """the chat template that the file was given in place of its source's"""
    pre: str | None = None
    """name of the BPE pre-tokenizer"""
    norms: Literal["checked", "plain", "shifted"] = "checked"
    local_files_only: bool = False


@dataclass(frozen=True)
class VerifyResult:
    """The checks of a GGUF file, in the order in which they were made."""

    gguf: Path
    source: str
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """Return the checks that fail; one that could not be made does not."""
        return tuple(check for check in self.checks if check.failed)


@verb(VerifyRequest)
def verify(request: VerifyRequest, reporter: Reporter) -> VerifyResult:
    """Check a GGUF file against its source: tensors, metadata, vocabulary, chat template, weights, first logits.

    ```python
    result = toolkit.verify("model-Q4_K_M.gguf", source="./model")
    print([check.name for check in result.failed])
    ```

    Raises InputError if a file cannot be read, or one changes meanwhile; HubError if the source
    cannot be fetched.
    """
    gguf = Path(request.gguf)
    with ExitStack() as scratch:
        path = resolve_source(request.source, reporter, scratch, local_files_only=request.local_files_only)
        reference = _reference(path, gguf, request, reporter)
        task = scratch.enter_context(reporter.task("comparing weights", len(reference.model.tensors)))
        checks = run_checks(gguf, reference, VerifyOptions(request.full, request.run, task))
    return VerifyResult(gguf, request.source, checks)


def _reference(source: Path, gguf: Path, request: VerifyRequest, reporter: Reporter) -> Reference:
    file = read_gguf(source if is_gguf(source) else gguf)
    if is_gguf(source):
        model, path = source_from_gguf(file.path, allow_requantize=True), file.path
    else:
        # Whether layers after pooling are part of a file is for whoever makes it to choose.
        dense_modules = f"{DENSE_NAMES[0]}.weight" in file.tensors
        model, path = (
            source_from_checkpoint(source, pre=request.pre, norms=request.norms, dense_modules=dense_modules),
            source,
        )
        report_warnings(model, reporter)
    return replace(Reference(model, path), model=use_chat_template(model, request.chat_template, reporter))
