"""`kld`: how far a quantized model is from its base, in the numbers that llama-perplexity prints."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import emit_json
from toolkit.cli.files import INPUT, OUTPUT, refuse_existing
from toolkit.cli.kld_report import document, print_report, print_rival
from toolkit.cli.kv_types import parse_kv
from toolkit.cli.loading import LoadOptions, Opened, devices_document, opened
from toolkit.cli.measuring import explained, measured_text, quality_options, text_document, windows_load
from toolkit.cli.options import force_option
from toolkit.cli.progress import Tell, value_bar
from toolkit.cli.verdicts import conclude, questions_of, verdict_document, verdict_options

if TYPE_CHECKING:
    from toolkit.measures.divergence import BaseLogits, Watch
    from toolkit.measures.divergence_statistics import Divergence, TokenScores
    from toolkit.measures.paired import Question, Verdict, Window
    from toolkit.measures.perplexity import Windows

KEYS = ("mean", "median", "p99", "p999", "max", "same_top_fraction", "perplexity_ratio")
_TO_DECIDE = 5

EXAMPLE = """
\b
Examples:
  gguf-toolkit kld model-q4_k_m.gguf --base model-bf16.gguf
  gguf-toolkit kld model-q4_k_m.gguf --base-logits base.logits
  gguf-toolkit kld model-bf16.gguf --base model-bf16.gguf --kv q8_0
  gguf-toolkit kld model-q4_k_m.gguf --base model-bf16.gguf --max-kld 0.05 --until-decided
  gguf-toolkit kld mine-q4_k_m.gguf --base model-bf16.gguf --against theirs-q4_k_m.gguf --until-decided
"""


@click.command(epilog=EXAMPLE)
@click.argument("gguf", type=INPUT)
@click.option("--base", type=INPUT, help="The unquantized model, evaluated in lockstep.")
@click.option("--base-logits", type=INPUT, help="Its logits in a file, instead.")
@click.option(
    "--base-kv",
    default="f16",
    show_default=True,
    callback=parse_kv,
    metavar="TYPE[/TYPE]",
    help="Type of the base's KV cache.",
)
@click.option("--save-logits", type=OUTPUT, help="Keep the base's logits in a file.")
@force_option
@verdict_options
@quality_options
@click.pass_context
def command(context: click.Context, /, gguf: Path, **options: Any) -> None:
    """Compare the predictions of a GGUF file with those of its base: Kullback-Leibler divergence, same top token, Δp.

    Both models run in lockstep, batch by batch, in bounded memory and without a file. --base-logits reads a file of
    llama-perplexity or of --save-logits; then windows and tokens are the file's, and --ctx and --text are only checked.
    --against takes a third model along, and judges the difference of both divergences, window by window.
    """
    if (options["base"] is None) == (options["base_logits"] is None):
        raise click.UsageError("give either --base BASE.gguf or --base-logits FILE")
    if options["save_logits"] is not None and options["base"] is None:
        raise click.UsageError("--save-logits keeps the logits of --base; with --base-logits there is nothing to save")
    if options["save_logits"] is not None and options["until_decided"]:
        raise click.UsageError("--save-logits needs every window, but --until-decided stops before; give one of them")
    refuse_existing(options["save_logits"], force=options["force"])
    from toolkit.measures.paired import judge

    questions = questions_of(options)
    given = {
        name
        for name in ("text", "as_chat", "n_ctx")
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    }
    started = time.perf_counter()
    request = _Request(gguf, options, given, questions)
    with explained([*request.models, *filter(None, [options["base"]])], "kld", KEYS, as_json=options["as_json"]):
        measured = _measure(request)
    verdict = judge(measured.windows, questions, measured.available) if questions else None
    if options["as_json"]:
        about = {"model": str(gguf), **measured.about, "seconds": time.perf_counter() - started}
        emit_json("kld", about | _results(request, measured) | verdict_document(verdict))
    else:
        _print(request, measured, verdict)
    conclude(verdict, quiet=options["as_json"])


@dataclass(frozen=True)
class _Request:
    gguf: Path
    options: dict[str, Any]
    given: set[str]
    """which of text, as_chat and n_ctx the user gave"""
    questions: "list[Question]"

    @property
    def models(self) -> list[Path]:
        """Return what is compared with the base, that which is judged first."""
        return [self.gguf, *filter(None, [self.options["against"]])]


@dataclass(frozen=True)
class _Measured:
    results: "tuple[Divergence, ...]"
    """of every model"""
    available: int
    """windows that there were"""
    about: dict[str, Any]

    @property
    def windows(self) -> "list[Window]":
        """Return the scores of every window."""
        return list(zip(*(result.per_chunk for result in self.results), strict=True))


def _results(request: _Request, measured: _Measured) -> dict[str, Any]:
    """Return the document of the model that is judged, with that of the one that it is held against."""
    first, *others = map(document, measured.results)
    rivals = [{"model": str(path), **found} for path, found in zip(request.models[1:], others, strict=True)]
    return {**first, "against": rivals[0] if rivals else None}


def _print(request: _Request, measured: _Measured, verdict: "Verdict | None") -> None:
    print_report(measured.results[0])
    if verdict is not None and len(measured.results) > 1:
        print_rival(request.models[1].name, measured.results[1], verdict.answers[-1])


def _measure(request: _Request) -> _Measured:
    return _in_lockstep(request) if request.options["base"] is not None else _against_file(request)


def _in_lockstep(request: _Request) -> _Measured:
    from toolkit.measures.divergence import LiveBase, check_vocabularies
    from toolkit.measures.evaluation_text import tokens_of
    from toolkit.measures.logits_file import logits_writer
    from toolkit.measures.perplexity import cut_windows

    options, base_path = request.options, request.options["base"]
    text, n_ctx = measured_text(options, base_path), options["n_ctx"]
    load = windows_load(options, n_ctx, _at_once(options))
    with ExitStack() as stack:
        models = _open_models(stack, request, load, n_ctx)
        base = stack.enter_context(opened(base_path, replace(load, kv=options["base_kv"]), n_ctx, beside=models))
        tokens = tokens_of(base.runtime, text)
        for model, gguf in zip(models, request.models, strict=True):
            own_text = measured_text(options, gguf) if text.is_chat else text
            check_vocabularies(model.runtime, base.runtime, tokens_of(model.runtime, own_text), tokens)
        windows, writer = cut_windows(tokens, n_ctx, options["chunks"]), None
        if options["save_logits"] is not None:
            output = logits_writer(options["save_logits"], windows, base.runtime.n_vocab, force=options["force"])
            writer = stack.enter_context(output)
        results = _compare(models, LiveBase(base.runtime, writer), windows, request)
    held = _devices(models) | {"base_devices": devices_document(base)}
    return _Measured(results, windows.count, {"base": str(base_path), **text_document(text), **held})


def _open_models(stack: ExitStack, request: _Request, load: LoadOptions, n_ctx: int) -> list[Opened]:
    """Load what is compared, one beside the other."""
    models: list[Opened] = []
    for path in request.models:
        models.append(stack.enter_context(opened(path, load, n_ctx, beside=models)))
    return models


def _devices(models: list[Opened]) -> dict[str, Any]:
    first, *others = map(devices_document, models)
    return {"devices": first, "against_devices": others[0] if others else None}


def _against_file(request: _Request) -> _Measured:
    from toolkit.measures.divergence import SavedBase
    from toolkit.measures.evaluation_text import tokens_of
    from toolkit.measures.logits_file import read_logits
    from toolkit.measures.perplexity import Windows

    options = request.options
    file = read_logits(options["base_logits"])
    text = measured_text(options, request.gguf) if request.given & {"text", "as_chat", "chat_template"} else None
    n_ctx, count = file.windows.n_ctx, min(file.windows.count, options["chunks"] or file.windows.count)
    with ExitStack() as stack:
        models = _open_models(stack, request, windows_load(options, n_ctx, _at_once(options) or count), n_ctx)
        for model in models:
            tokens = tokens_of(model.runtime, text) if text is not None else None
            file.check(model.runtime.n_vocab, options["n_ctx"] if "n_ctx" in request.given else None, tokens)
        windows = Windows(file.windows.tokens, n_ctx, count)
        results = _compare(models, SavedBase(file), windows, request)
    about_text = text_document(text) if text is not None else {"text": None, "text_sha256": None, "as_chat": None}
    about = {"base": str(options["base_logits"]), **about_text, **_devices(models)}
    return _Measured(results, windows.count, about)


def _at_once(options: dict[str, Any]) -> int | None:
    """Return how many windows may be evaluated side by side: few where each may be the last that is needed."""
    return min(_TO_DECIDE, options["chunks"] or _TO_DECIDE) if options["until_decided"] else options["chunks"]


def _compare(
    models: list[Opened], base: "BaseLogits", windows: "Windows", request: _Request
) -> "tuple[Divergence, ...]":
    from toolkit.measures.divergence import measure_divergences
    from toolkit.measures.paired import random_order

    until_decided = request.options["until_decided"]
    order = random_order(windows.count) if until_decided else None
    with value_bar("divergence") as tell:
        watch = _watch(windows.count, tell, request.questions if until_decided else [])
        return measure_divergences([model.runtime for model in models], base, windows, watch, order)


def _watch(total: int, tell: Tell, questions: "list[Question]") -> "Watch":
    from toolkit.measures.divergence_statistics import chunk_scores
    from toolkit.measures.paired import judge

    seen: list[Window] = []

    def watch(done: int, scores: "Sequence[TokenScores]") -> bool:
        seen.append([chunk_scores(model) for model in scores])
        # Every window has as many tokens, so the mean of the means is the mean.
        tell(done, total, f"{sum(window[0].divergence for window in seen) / done:.6f}")
        return bool(questions) and judge(seen, questions, total).outcome != "undecided"

    return watch
