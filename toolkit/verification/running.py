"""Whether llama.cpp loads a file, and whether the first logits make sense."""

import numpy

from toolkit.errors import EnvironmentFaultError, ToolkitError
from toolkit.gguf.reader import GgufFile
from toolkit.llama.evaluation import Logits
from toolkit.llama.model_limits import why_no_next_token
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.verification.check import Check, Outcome, judged, unknown
from toolkit.verification.file_check import refusal

LOADS, LOGITS = "loads", "first logits"
_SENSIBLE = "finite, spread, and different after different tokens"
_TEXT = "The quick brown fox jumps over the lazy dog."
_TOKENS = 8


def check_loading(file: GgufFile) -> Check:
    """Return the check `loads`: in a process of its own, without the weights."""
    try:
        reason = refusal(file.path)
    except EnvironmentFaultError as error:
        return unknown(LOADS, "llama.cpp takes it", str(error))
    return judged(LOADS, reason is None, "llama.cpp takes it", "refused" if reason else "taken", reason or "")


def check_first_logits(file: GgufFile) -> Check:
    """Return the check `first logits`: the whole model, run on the CPU over a few tokens."""
    why_not = why_no_next_token(file.metadata, file.tensors)
    if why_not:
        return unknown(LOGITS, _SENSIBLE, why_not)
    try:
        with LlamaRuntime(file.path, RunSettings(n_ctx=64, n_batch=64, n_ubatch=64)) as runtime:
            tokens = runtime.tokenize(_TEXT)[:_TOKENS]
            logits = runtime.evaluate(tokens, slice(None))
    except ToolkitError as error:
        return unknown(LOGITS, _SENSIBLE, str(error))
    fault = degeneracy(logits)
    evidence = f"{len(tokens)} tokens, logits from {logits.min():.4g} to {logits.max():.4g}"
    return judged(LOGITS, fault is None, _SENSIBLE, fault or "as expected", evidence)


def degeneracy(logits: Logits) -> str | None:
    """Return what is wrong with logits [tokens, vocabulary], None if nothing is."""
    bad = int((~numpy.isfinite(logits)).sum())
    if bad:
        return f"{bad:,} are NaN or infinite"
    if float(numpy.ptp(logits, axis=1).min()) == 0.0:
        return "all tokens are equally likely"
    if len(logits) > 1 and (logits == logits[0]).all():
        return "the same after every token"
    return None


def skipped(name: str, why: str) -> Check:
    """Return a check that is not made, with the reason."""
    expected = _SENSIBLE if name == LOGITS else "llama.cpp takes it"
    return Check(name, Outcome.UNKNOWN, expected, "not checked", why)
