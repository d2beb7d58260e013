"""`verify`: whether a GGUF file still is the checkpoint that it was made of."""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.chat_templates import chat_template_option, given_template
from toolkit.cli.common import emit_json, json_option
from toolkit.cli.files import INPUT, SOURCE
from toolkit.cli.options import norms_option, pre_option
from toolkit.cli.output import echo
from toolkit.cli.source import is_gguf, local_files_option, resolve_source, told
from toolkit.errors import FidelityError

if TYPE_CHECKING:
    from toolkit.model_source import ModelSource
    from toolkit.verify import Origin, Verification

EXAMPLE = """
\b
Examples:
  gguf-toolkit verify model-Q4_K_M.gguf --source ./model
  gguf-toolkit verify model-Q4_K_M.gguf --source model-BF16.gguf --full
"""


@click.command(epilog=EXAMPLE)
@click.argument("file", metavar="OUT.gguf", type=INPUT)
@click.option("--source", metavar="SRC", type=SOURCE, help="Directory, model on the hub, `demo`, or GGUF file.")
@click.option("--full", is_flag=True, help="Compare all rows of every tensor instead of a sample.")
@click.option("--no-run", is_flag=True, help="Do not load the whole model for its first logits.")
@chat_template_option("that the file was given in place of its source's")
@pre_option
@norms_option
@local_files_option
@json_option
def command(
    file: Path,
    source: str | None,
    full: bool,
    no_run: bool,
    chat_template: Path | None,
    pre: str | None,
    norms: str,
    local_files_only: bool,
    as_json: bool,
) -> None:
    """Hold OUT.gguf against its source, wherever it was made: one line a check.

    Tensors, shapes and weights, the keys of the architecture, vocabulary, token ids of a sample in many scripts (through
    the source's own tokenizer library and through llama.cpp), special tokens, chat templates rendered from both, and the
    first logits. Exit code 1 if a check fails; UNKNOWN is one that could not be made.
    """
    from toolkit.cli.progress import progress_bar
    from toolkit.sources.hf_source import source_from_checkpoint
    from toolkit.verify import VerifyOptions, verify

    if source is None:
        raise click.UsageError(
            "a file is held against what it was made of: name that with --source SRC; what a file holds by itself shows "
            f"gguf-toolkit inspect {file}"
        )
    directory = resolve_source(source, local_files_only=local_files_only)
    origin = _origin(directory, file, partial(source_from_checkpoint, pre=pre, norms=norms))
    origin = replace(origin, model=given_template(origin.model, chat_template))
    with progress_bar("comparing weights", len(origin.model.tensors), unit_bytes=False) as advance:
        verification = verify(file, origin, VerifyOptions(full, not no_run, advance))
    if as_json:
        emit_json("verify", document(file, source, verification))
    else:
        _print_checks(verification)
    if verification.failed:
        names = ", ".join(check.name for check in verification.failed)
        raise FidelityError(f"{file} is not what {source} says: {names}")


def _origin(source: Path, output: Path, read: "Callable[..., ModelSource]") -> "Origin":
    from toolkit.gguf.reader import read_gguf
    from toolkit.sources.gguf_source import source_from_gguf
    from toolkit.sources.pooling import NAMES as DENSE_NAMES
    from toolkit.verify import Origin

    if is_gguf(source):
        file = read_gguf(source)
        return Origin(source_from_gguf(file.path, allow_requantize=True), file.path)
    # Whether layers after pooling are part of a file is for whoever makes it to choose.
    dense_modules = f"{DENSE_NAMES[0]}.weight" in read_gguf(output).tensors
    return Origin(told(read(source, dense_modules=dense_modules)), source)


def document(file: Path, source: str, verification: "Verification") -> dict[str, Any]:
    """Return the JSON document of a verification."""
    return {
        "file": str(file),
        "source": source,
        "faithful": not verification.failed,
        "checks": [asdict(check) for check in verification.checks],
    }


def _print_checks(verification: "Verification") -> None:
    width = max(len(check.name) for check in verification.checks)
    for check in verification.checks:
        outcome = "" if check.outcome == "PASS" and check.observed == "equal" else f"; found: {check.observed}"
        evidence = f" ({check.evidence})" if check.evidence else ""
        echo(f"{check.outcome:<7}  {check.name:<{width}}  {check.expected}{outcome}{evidence}")
