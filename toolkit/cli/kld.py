"""`kld`: how far a quantized model is from its base, in the numbers that llama-perplexity prints."""

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import emit_json
from toolkit.cli.loading import devices_document, opened
from toolkit.cli.measuring import (
    Tell,
    explained,
    measured_text,
    quality_options,
    text_document,
    value_bar,
    windows_load,
)
from toolkit.cli.places import parse_kv
from toolkit.cli.verdicts import conclude, questions_of, verdict_document, verdict_options

if TYPE_CHECKING:
    from toolkit.llama.runtime import LlamaRuntime
    from toolkit.measures.divergence import BaseLogits, Watch
    from toolkit.measures.divergence_statistics import Distribution, Divergence, Estimate, TokenScores
    from toolkit.measures.paired import Question
    from toolkit.measures.perplexity import Windows

KEYS = ("mean", "median", "p99", "p999", "max", "same_top_fraction", "perplexity_ratio")
_TO_DECIDE = 5
_NAMES = {0.999: "p999", 0.99: "p99", 0.95: "p95", 0.9: "p90", 0.5: "median", 0.1: "p10", 0.05: "p05", 0.01: "p01"}

EXAMPLE = """
\b
Examples:
  gguf-toolkit kld model-q4_k_m.gguf --base model-bf16.gguf
  gguf-toolkit kld model-q4_k_m.gguf --base-logits base.logits
  gguf-toolkit kld model-bf16.gguf --base model-bf16.gguf --kv q8_0
  gguf-toolkit kld model-q4_k_m.gguf --base model-bf16.gguf --max-kld 0.05 --until-decided
"""


@click.command(epilog=EXAMPLE)
@click.argument("gguf", type=click.Path(path_type=Path))
@click.option("--base", type=click.Path(path_type=Path), help="The unquantized model, evaluated in lockstep.")
@click.option("--base-logits", type=click.Path(path_type=Path), help="Its logits in a file, instead.")
@click.option(
    "--base-kv", default="f16", show_default=True, callback=parse_kv, metavar="TYPE", help="The base's KV cache."
)
@click.option("--save-logits", type=click.Path(path_type=Path), help="Keep the base's logits in a file.")
@click.option("--force", is_flag=True, help="Replace an existing logits file.")
@verdict_options
@quality_options
@click.pass_context
def command(context: click.Context, /, gguf: Path, **options: Any) -> None:
    """Compare the predictions of a GGUF file with those of its base: Kullback-Leibler divergence, same top token, Δp.

    Both models run in lockstep, batch by batch, in bounded memory and without a file. --base-logits reads a file of
    llama-perplexity or of --save-logits; then windows and tokens are the file's, and --ctx and --text are only checked.
    """
    if (options["base"] is None) == (options["base_logits"] is None):
        raise click.UsageError("give either --base BASE.gguf or --base-logits FILE")
    if options["save_logits"] is not None and options["base"] is None:
        raise click.UsageError("--save-logits keeps the logits of --base; with --base-logits there is nothing to save")
    if options["save_logits"] is not None and options["until_decided"]:
        raise click.UsageError("--save-logits needs every window, but --until-decided stops before; give one of them")
    from toolkit.measures.paired import judge

    questions = questions_of(options)
    given = {
        name
        for name in ("text", "as_chat", "n_ctx")
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    }
    started = time.perf_counter()
    models = [path for path in (gguf, options["base"]) if path is not None]
    with explained(models, "kld", KEYS, as_json=options["as_json"]):
        measured = _measure(_Request(gguf, options, given, questions))
    verdict = judge(measured.result.per_chunk, questions) if questions else None
    if options["as_json"]:
        about = {"model": str(gguf), **measured.about, "seconds": time.perf_counter() - started}
        emit_json("kld", about | document(measured.result) | verdict_document(verdict, measured.available))
    else:
        print_report(measured.result)
    conclude(verdict, measured.available, quiet=options["as_json"])


@dataclass(frozen=True)
class _Request:
    gguf: Path
    options: dict[str, Any]
    given: set[str]
    """which of text, as_chat and n_ctx the user gave"""
    questions: "list[Question]"


@dataclass(frozen=True)
class _Measured:
    result: "Divergence"
    available: int
    """windows that there were"""
    about: dict[str, Any]


def _measure(request: _Request) -> _Measured:
    return _in_lockstep(request) if request.options["base"] is not None else _against_file(request)


def _in_lockstep(request: _Request) -> _Measured:
    from toolkit.measures.chat_text import tokens_of
    from toolkit.measures.divergence import LiveBase, check_vocabularies
    from toolkit.measures.logits_file import logits_writer
    from toolkit.measures.perplexity import cut_windows

    options = request.options
    text, n_ctx = measured_text(options, request.gguf), options["n_ctx"]
    base_text = measured_text(options, options["base"]) if options["as_chat"] else text
    load = windows_load(options, n_ctx, _at_once(options))
    base_load = replace(load, kv=options["base_kv"])
    with ExitStack() as stack:
        model = stack.enter_context(opened(request.gguf, load, n_ctx))
        base_model = stack.enter_context(opened(options["base"], base_load, n_ctx, beside=model))
        runtime, base = model.runtime, base_model.runtime
        tokens = tokens_of(runtime, text)
        check_vocabularies(runtime, base, tokens, tokens_of(base, base_text))
        windows = cut_windows(tokens, n_ctx, options["chunks"])
        writer = None
        if options["save_logits"] is not None:
            output = logits_writer(options["save_logits"], windows, base.n_vocab, force=options["force"])
            writer = stack.enter_context(output)
        result = _compare(runtime, LiveBase(base, writer), windows, request)
    held = {"devices": devices_document(model), "base_devices": devices_document(base_model)}
    return _Measured(result, windows.count, {"base": str(options["base"]), **text_document(text), **held})


def _against_file(request: _Request) -> _Measured:
    from toolkit.measures.chat_text import tokens_of
    from toolkit.measures.divergence import SavedBase
    from toolkit.measures.logits_file import read_logits
    from toolkit.measures.perplexity import Windows

    options = request.options
    file = read_logits(options["base_logits"])
    text = measured_text(options, request.gguf) if request.given & {"text", "as_chat"} else None
    count = min(file.windows.count, options["chunks"] or file.windows.count)
    with opened(
        request.gguf, windows_load(options, file.windows.n_ctx, _at_once(options) or count), file.windows.n_ctx
    ) as model:
        runtime = model.runtime
        tokens = tokens_of(runtime, text) if text is not None else None
        file.check(runtime.n_vocab, options["n_ctx"] if "n_ctx" in request.given else None, tokens)
        windows = Windows(file.windows.tokens, file.windows.n_ctx, count)
        result = _compare(runtime, SavedBase(file), windows, request)
    about_text = text_document(text) if text is not None else {"text": None, "text_sha256": None, "as_chat": None}
    held = {"devices": devices_document(model)}
    return _Measured(result, windows.count, {"base": str(options["base_logits"]), **about_text, **held})


def _at_once(options: dict[str, Any]) -> int | None:
    """Return how many windows may be evaluated side by side: few where each may be the last that is needed."""
    return min(_TO_DECIDE, options["chunks"] or _TO_DECIDE) if options["until_decided"] else options["chunks"]


def _compare(runtime: "LlamaRuntime", base: "BaseLogits", windows: "Windows", request: _Request) -> "Divergence":
    from toolkit.measures.divergence import measure_divergence
    from toolkit.measures.paired import random_order

    until_decided = request.options["until_decided"]
    order = random_order(windows.count) if until_decided else None
    with value_bar("divergence") as tell:
        watch = _watch(windows.count, tell, request.questions if until_decided else [])
        return measure_divergence(runtime, base, windows, watch, order)


def _watch(total: int, tell: Tell, questions: "list[Question]") -> "Watch":
    from toolkit.measures.divergence_statistics import ChunkScores, chunk_scores
    from toolkit.measures.paired import judge

    seen: list[ChunkScores] = []

    def watch(done: int, scores: "TokenScores") -> bool:
        seen.append(chunk_scores(scores))
        # Every window has as many tokens, so the mean of the means is the mean.
        tell(done, total, f"{sum(window.divergence for window in seen) / done:.6f}")
        return bool(questions) and judge(seen, questions).outcome != "undecided"

    return watch


def document(result: "Divergence") -> dict[str, Any]:
    """Return the JSON document of a comparison."""
    kld, delta_p = result.divergence, result.delta_p
    return {
        **_pair("mean", kld.mean),
        **{name: kld.percentiles[fraction] for fraction, name in _NAMES.items()},
        "max": kld.maximum,
        "min": kld.minimum,
        **_pair("same_top_fraction", result.same_top),
        **_pair("perplexity_ratio", result.perplexity_ratio),
        **_pair("log_perplexity_ratio", result.log_ratio),
        **_pair("perplexity_difference", result.perplexity_difference),
        **_pair("perplexity", result.perplexity),
        **_pair("base_perplexity", result.base_perplexity),
        "correlation": result.correlation,
        **_pair("mean_delta_p", delta_p.mean),
        **_pair("rms_delta_p", result.rms_delta_p),
        "delta_p": {name: delta_p.percentiles[fraction] for fraction, name in _NAMES.items()}
        | {"max": delta_p.maximum, "min": delta_p.minimum},
        "base_rounding": result.rounding,
        "tokens": result.tokens,
        "chunks": result.chunks,
        "n_ctx": result.n_ctx,
    }


def _pair(name: str, estimate: "Estimate") -> dict[str, float]:
    return {name: estimate.value, f"{name}_error": estimate.error}


def print_report(result: "Divergence") -> None:
    """Print the statistics as llama-perplexity rounds them."""
    rows = [
        ("PPL", _plus_minus(result.perplexity)),
        ("PPL of the base", _plus_minus(result.base_perplexity)),
        ("PPL / PPL of the base", _plus_minus(result.perplexity_ratio)),
        ("ln of that", _plus_minus(result.log_ratio)),
        ("KLD mean", _plus_minus(result.divergence.mean)),
        *((f"KLD {words}", f"{value:.6f}") for words, value in _places(result.divergence)),
        ("Δp mean", _percent(result.delta_p.mean)),
        ("Δp RMS", _percent(result.rms_delta_p)),
        ("same top token", _percent(result.same_top)),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value}")
    click.echo(
        f"{result.tokens:,} tokens in {result.chunks:,} windows of {result.n_ctx:,}; the base's log-probabilities are "
        f"stored in 16 bits, exact to {result.rounding:.1e}, so that a model's divergence from itself is not exactly 0"
    )


def _places(distribution: "Distribution") -> list[tuple[str, float]]:
    names = {0.999: "99.9 %", 0.99: "99 %", 0.95: "95 %", 0.9: "90 %", 0.5: "median"}
    return [("maximum", distribution.maximum)] + [
        (words, distribution.percentiles[fraction]) for fraction, words in names.items()
    ]


def _plus_minus(estimate: "Estimate") -> str:
    return f"{estimate.value:.6f} ± {estimate.error:.6f}"


def _percent(estimate: "Estimate") -> str:
    return f"{100 * estimate.value:.3f} ± {100 * estimate.error:.3f} %"
