"""`perplexity`: how well a model predicts a text, in the numbers that llama-perplexity prints."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import emit_json
from toolkit.cli.loading import devices_document, load_options, opened
from toolkit.cli.measuring import explained, quality_options, text_document, value_bar

if TYPE_CHECKING:
    from toolkit.perplexity import Perplexity

KEYS = ("perplexity", "standard_error", "tokens")

EXAMPLE = """
\b
Examples:
  gguf-toolkit perplexity model.gguf
  gguf-toolkit perplexity model.gguf --text wiki.test.raw --ctx 2k --kv q8_0
  gguf-toolkit perplexity model-bf16.gguf --chunks 100 --save-logits base.logits
"""


@click.command(name="perplexity", epilog=EXAMPLE)
@click.argument("gguf", type=click.Path(path_type=Path))
@click.option("--save-logits", type=click.Path(path_type=Path), help="Keep the logits for `kld --base-logits`.")
@click.option("--force", is_flag=True, help="Replace an existing logits file.")
@quality_options
def command(gguf: Path, **options: Any) -> None:
    """Measure the perplexity of a GGUF file: exp of the mean negative log-likelihood of a text's tokens.

    The method is llama-perplexity's, so the numbers can be compared with published ones: windows of --ctx tokens, of
    which the second half is scored.
    """
    from toolkit.evaluation_text import named_text

    text = named_text(options["text"])
    started = time.perf_counter()
    with explained([gguf], "perplexity", KEYS, as_json=options["as_json"]):
        result, devices = _measure(gguf, text.text, options)
    seconds = time.perf_counter() - started
    if options["as_json"]:
        about = {"model": str(gguf), **document(result), **text_document(text)}
        emit_json("perplexity", {**about, "devices": devices, "seconds": seconds})
        return
    click.echo(
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


def _measure(gguf: Path, text: str, options: dict[str, Any]) -> "tuple[Perplexity, list[dict[str, Any]]]":
    """Return the perplexity, and what the devices held."""
    from toolkit.logits_file import SaveAs, measure_and_save
    from toolkit.perplexity import cut_windows, measure_perplexity

    n_ctx, chunks, output = options["n_ctx"], options["chunks"], options["save_logits"]
    with opened(gguf, load_options(options), n_ctx) as one, value_bar("perplexity") as tell:
        tokens = one.runtime.tokenize(text)

        def progress(done: int, total: int, value: float) -> None:
            tell(done, total, f"{value:.4f}")

        if output is None:
            result = measure_perplexity(one.runtime, tokens, n_ctx, chunks, progress)
        else:
            windows = cut_windows(tokens, n_ctx, chunks)
            result = measure_and_save(one.runtime, windows, SaveAs(output, options["force"]), progress)
        return result, devices_document(one)
