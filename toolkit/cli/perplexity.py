"""`perplexity`: how well a model predicts a text, in the numbers that llama-perplexity prints."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import emit_json
from toolkit.cli.files import INPUT, OUTPUT, refuse_existing
from toolkit.cli.loading import devices_document, load_options, opened
from toolkit.cli.measuring import explained, measured_text, quality_options, text_document, windows_load
from toolkit.cli.options import force_option
from toolkit.cli.output import echo
from toolkit.cli.progress import value_bar

if TYPE_CHECKING:
    from toolkit.measures.evaluation_text import EvaluationText
    from toolkit.measures.perplexity import Perplexity

KEYS = ("perplexity", "standard_error", "tokens")

EXAMPLE = """
\b
Examples:
  gguf-toolkit perplexity model.gguf
  gguf-toolkit perplexity model.gguf --text wiki.test.raw --ctx 2k --kv q8_0
  gguf-toolkit perplexity model-bf16.gguf --chunks 100 --save-logits base.logits
"""


@click.command(name="perplexity", epilog=EXAMPLE)
@click.argument("gguf", type=INPUT)
@click.option(
    "--stride",
    type=click.IntRange(min=1),
    metavar="N",
    help="Let windows overlap, each N tokens after the one before, and score the last N of each.",
)
@click.option("--save-logits", type=OUTPUT, help="Keep the logits for `kld --base-logits`.")
@force_option
@quality_options
def command(gguf: Path, **options: Any) -> None:
    """Measure the perplexity of a GGUF file: exp of the mean negative log-likelihood of a text's tokens.

    The method is llama-perplexity's, so the numbers can be compared with published ones: windows of --ctx tokens, of
    which the second half is scored. --stride is its --ppl-stride with -b equal to -c, where a window has --ctx + N / 2
    tokens, rounded up to a multiple of 256.
    """
    if options["stride"] is not None and options["save_logits"] is not None:
        raise click.UsageError("--save-logits keeps windows that do not overlap; leave --stride out")
    refuse_existing(options["save_logits"], force=options["force"])
    text = measured_text(options, gguf)
    started = time.perf_counter()
    with explained([gguf], "perplexity", KEYS, as_json=options["as_json"]):
        result, devices = _measure(gguf, text, options)
    seconds = time.perf_counter() - started
    if options["as_json"]:
        about = {"model": str(gguf), **document(result), "stride": options["stride"], **text_document(text)}
        emit_json("perplexity", {**about, "devices": devices, "seconds": seconds})
        return
    echo(
        f"perplexity {result.perplexity:.4f} ± {result.standard_error:.5f} on {result.tokens:,} tokens "
        f"in {result.chunks:,} windows of {result.n_ctx:,} ({text.name})"
    )


def document(result: "Perplexity") -> dict[str, Any]:
    """Return the part of a document that says how well a model predicts."""
    return {
        "perplexity": result.perplexity,
        "standard_error": result.standard_error,
        "tokens": result.tokens,
        "chunks": result.chunks,
        "n_ctx": result.n_ctx,
        "mean_nll": result.mean_nll,
        "chunk_nlls": list(result.chunk_nlls),
    }


def _measure(gguf: Path, text: "EvaluationText", options: dict[str, Any]) -> "tuple[Perplexity, list[dict[str, Any]]]":
    """Return the perplexity, and what the devices held."""
    from toolkit.measures.evaluation_text import tokens_of
    from toolkit.measures.perplexity import cut_windows, measure_windows, strided_window

    n_ctx, chunks, stride, output = options["n_ctx"], options["chunks"], options["stride"], options["save_logits"]
    if stride is None:
        load = windows_load(options, n_ctx, chunks)
    else:
        n_ctx = strided_window(n_ctx, stride)
        load = replace(load_options(options), scored=range(n_ctx - 1 - stride, n_ctx - 1))
    with opened(gguf, load, n_ctx) as one, value_bar("perplexity") as tell:
        windows = cut_windows(tokens_of(one.runtime, text), n_ctx, chunks, stride)

        def progress(done: int, total: int, value: float) -> None:
            tell(done, total, f"{value:.4f}")

        if output is None:
            result = measure_windows(one.runtime, windows, progress)
        else:
            from toolkit.measures.logits_file import SaveAs, measure_and_save

            result = measure_and_save(one.runtime, windows, SaveAs(output, options["force"]), progress)
        return result, devices_document(one)
