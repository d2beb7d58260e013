"""`perplexity`: how well a GGUF file predicts a text, in llama-perplexity's numbers."""

import time
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from toolkit.errors import InputError
from toolkit.gguf.output_file import check_output
from toolkit.measures.chunks import cut_chunks, strided_chunk
from toolkit.measures.evaluation_text import EvaluationText, tokens_of
from toolkit.measures.logits_file import SaveAs, measure_and_save
from toolkit.measures.perplexity import Perplexity, measure_chunks
from toolkit.planning.load_plan import LoadedBytes
from toolkit.reporter import Reporter
from toolkit.verbs.devices import PathName
from toolkit.verbs.evaluation import (
    TextFields,
    TextIdentity,
    evaluation_text,
    identity_of,
    load_for_chunks,
    naming_bad_weights,
)
from toolkit.verbs.loading import HowToLoad, how_to_load, load_file
from toolkit.verbs.values import Positive
from toolkit.verbs.verb import verb


@dataclass(frozen=True)
class PerplexityRequest(TextFields):
    """A GGUF file and a text."""

    gguf: Path | str
    _: KW_ONLY
    stride: Positive | None = None
    """tokens between the begins of two chunks that overlap; None: chunks do not overlap"""
    save_logits: PathName | None = None
    """file for the logits, which `kld` reads as those of a base"""
    force: bool = False
    """replace an existing file"""


@dataclass(frozen=True)
class PerplexityResult:
    """The perplexity of a file on a text, and what it was measured on."""

    gguf: Path
    measured: Perplexity
    stride: int | None
    text: TextIdentity
    devices: tuple[LoadedBytes, ...]
    seconds: float

    @property
    def perplexity(self) -> float:
        """Return exp of the mean negative log-likelihood of the scored tokens."""
        return self.measured.perplexity

    @property
    def standard_error(self) -> float:
        """Return the standard error of the perplexity."""
        return self.measured.standard_error


@verb(PerplexityRequest)
def perplexity(request: PerplexityRequest, reporter: Reporter) -> PerplexityResult:
    """Measure the perplexity of a GGUF file, chunk by chunk as llama-perplexity does.

    ```python
    result = toolkit.perplexity("model-Q4_K_M.gguf", text="wiki.test.raw", chunks=100)
    print(result.perplexity, "±", result.standard_error)
    ```

    Raises GgufError for a file that llama.cpp refuses, TextError for a text that is too short, DoesNotFitError if the model
    does not fit, NotFiniteError if its logits are NaN or infinite, and InputError or OutputError for logits that cannot be saved.
    """
    gguf, started = Path(request.gguf), time.perf_counter()
    if request.stride is not None and request.save_logits is not None:
        raise InputError("--save-logits keeps chunks that do not overlap; leave --stride out")
    if request.save_logits is not None:
        check_output(Path(request.save_logits), force=request.force)
    text = evaluation_text(request, gguf)
    with naming_bad_weights([gguf]):
        measured, devices = _measure(gguf, text, request, reporter)
    seconds = time.perf_counter() - started
    return PerplexityResult(gguf, measured, request.stride, identity_of(text), devices, seconds)


def _measure(
    gguf: Path, text: EvaluationText, request: PerplexityRequest, reporter: Reporter
) -> tuple[Perplexity, tuple[LoadedBytes, ...]]:
    n_ctx_seq, how = _chunk(request)
    with load_file(gguf, how, n_ctx_seq, reporter) as loaded, reporter.task("perplexity") as task:
        tokens = tokens_of(loaded.runtime, text)
        chunks = cut_chunks(tokens, n_ctx_seq, request.chunks, request.stride)
        if request.save_logits is None:
            return measure_chunks(loaded.runtime, chunks, task), loaded.devices
        save = SaveAs(Path(request.save_logits), request.force)
        return measure_and_save(loaded.runtime, chunks, save, task), loaded.devices


def _chunk(request: PerplexityRequest) -> tuple[int, HowToLoad]:
    """Return the tokens of a chunk, and how the file is loaded for chunks of so many."""
    n_ctx_seq, stride = request.chunk_tokens, request.stride
    if stride is None:
        return n_ctx_seq, load_for_chunks(request, n_ctx_seq, request.chunks)
    n_ctx_seq = strided_chunk(n_ctx_seq, stride)
    return n_ctx_seq, how_to_load(request, scored=range(n_ctx_seq - 1 - stride, n_ctx_seq - 1))
