"""The command `perplexity`."""

from pathlib import Path
from typing import Any

import click

from toolkit.cli.common import emit_json, show
from toolkit.cli.files import INPUT, OUTPUT
from toolkit.cli.options import TEXT_OPTIONS, force_option, with_options
from toolkit.cli.reporter import console
from toolkit.errors import NotFiniteError

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
    help="Let chunks overlap, each N tokens after the one before, and score the last N of each.",
)
@click.option("--save-logits", type=OUTPUT, help="Keep the logits for `kld --base-logits`.")
@force_option
@with_options(*TEXT_OPTIONS)
def command(gguf: Path, as_json: bool, **options: Any) -> None:
    """Measure the perplexity of a GGUF file: exp of the mean negative log-likelihood of a text's tokens.

    The method is llama-perplexity's, so the numbers can be compared with published ones: chunks of --ctx tokens, of
    which the second half is scored. --stride is its --ppl-stride with -b equal to -c, where a chunk has --ctx + N / 2
    tokens, rounded up to a multiple of 256.
    """
    from toolkit.render.loading import not_finite_document
    from toolkit.render.perplexity import KEYS, perplexity_document, perplexity_lines
    from toolkit.verbs.perplexity import PerplexityRequest, perplexity

    try:
        result = perplexity(PerplexityRequest(gguf, **options), console(as_json=as_json))
    except NotFiniteError as error:
        if as_json:
            emit_json("perplexity", not_finite_document(error, KEYS))
        raise
    show("perplexity", perplexity_document(result) if as_json else perplexity_lines(result))
