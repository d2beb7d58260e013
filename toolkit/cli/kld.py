"""The command `kld`."""

from pathlib import Path
from typing import Any

import click

from toolkit.cli.common import emit_json, show
from toolkit.cli.files import INPUT, OUTPUT
from toolkit.cli.options import TEXT_OPTIONS, force_option, parse_kv, with_options
from toolkit.cli.reporter import CONSOLE, console
from toolkit.errors import NotFiniteError, QualityError

EXAMPLE = """
\b
Examples:
  gguf-toolkit kld model-q4_k_m.gguf --base model-bf16.gguf
  gguf-toolkit kld model-q4_k_m.gguf --base-logits base.logits
  gguf-toolkit kld model-bf16.gguf --base model-bf16.gguf --kv q8_0
  gguf-toolkit kld model-q4_k_m.gguf --base model-bf16.gguf --max-kld 0.05 --until-decided
  gguf-toolkit kld mine-q4_k_m.gguf --base model-bf16.gguf --against theirs-q4_k_m.gguf --until-decided
"""
THRESHOLDS = (
    click.option("--max-kld", type=click.FloatRange(min=0), help="Fail (exit code 1) above this mean divergence."),
    click.option(
        "--max-ppl-increase",
        type=click.FloatRange(min=-100, min_open=True),
        help="Fail above this increase of the perplexity, in per cent.",
    ),
    click.option("--min-same-top", type=click.FloatRange(0, 100), help="Fail below this share of same top tokens, %."),
    click.option("--against", type=INPUT, help="Another GGUF file: fail if that one diverges less."),
    click.option(
        "--until-decided",
        is_flag=True,
        help="Take chunks in random order, and stop as soon as all of these are decided for the whole text; wrong in at most 5 % of "
        "the orders. Chunks count as a few times the threshold at most, which the answer names.",
    ),
)


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
@with_options(*THRESHOLDS)
@with_options(*TEXT_OPTIONS)
def command(gguf: Path, as_json: bool, **options: Any) -> None:
    """Compare the predictions of a GGUF file with those of its base: Kullback-Leibler divergence, same top token, Δp.

    Both models run in lockstep, batch by batch, in bounded memory and without a file. --base-logits reads a file of
    llama-perplexity or of --save-logits; then chunks and tokens are the file's, and --ctx and --text are only checked.
    --against takes a third model along, and judges the difference of both divergences, chunk by chunk.
    """
    from toolkit.render.kld import KEYS, kld_document, kld_lines, verdict_sentence
    from toolkit.render.loading import not_finite_document
    from toolkit.verbs.kld import KldRequest, kld

    try:
        result = kld(KldRequest(gguf, **options), console(as_json=as_json))
    except NotFiniteError as error:
        if as_json:
            emit_json("kld", not_finite_document(error, KEYS))
        raise
    show("kld", kld_document(result) if as_json else kld_lines(result))
    if result.verdict is not None and not result.verdict.holds:
        raise QualityError(verdict_sentence(result.verdict))
    if result.verdict is not None and not as_json:
        CONSOLE.note(verdict_sentence(result.verdict))
