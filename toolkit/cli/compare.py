"""The command `compare`."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.chat_templates import renders_chat_template
from toolkit.cli.common import COUNT, json_option, show
from toolkit.cli.files import INPUT, INPUT_NAME, OUTPUT, OUTPUT_FOLDER, SOURCE, refuse_existing
from toolkit.cli.options import (
    BUDGET_OPTIONS,
    force_option,
    kv_list_option,
    local_files_option,
    norms_option,
    pre_option,
    repetitions_option,
    threads_option,
    with_options,
)
from toolkit.cli.reporter import CONSOLE

if TYPE_CHECKING:
    from toolkit.comparison.rows import Comparison

EXAMPLE = """
\b
Examples:
  gguf-toolkit compare demo --profiles q8_0,q6_k,q5_k_m,q4_k_m,q3_k_m,q2_k --vram 16MiB --ctx 512 --report demo.html
  gguf-toolkit compare a-q4_k_m.gguf b-q4_k_m.gguf --base model-bf16.gguf --vram 8GiB --ctx 16k
  gguf-toolkit compare ./checkpoint --profiles q6_k,q4_k_m --text code=repo.txt --text language=korean.txt --use code
  gguf-toolkit compare model-q8_0.gguf --base model-bf16.gguf --kv f16,q8_0,q4_0 --markdown table.md
"""


def _list(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (value or "").split(",") if part.strip())


@click.command(epilog=EXAMPLE)
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=SOURCE)
@click.option(
    "--profiles",
    type=INPUT_NAME,
    callback=_list,
    metavar="NAME[,NAME...]",
    help="Convert one MODEL with each of these.",
)
@click.option("--base", type=INPUT, help="The unquantized model; default: the MODEL as it is.")
@click.option("--imatrix", type=INPUT, help="Importance matrix for --profiles.")
@click.option(
    "--text",
    "texts",
    type=INPUT_NAME,
    multiple=True,
    metavar="[KIND=]FILE",
    help="Text, and what it is a sample of; default: demo.",
)
@click.option("--as-chat", is_flag=True, help="Take paragraphs of chat text as turns, in the model's own chat format.")
@renders_chat_template
@click.option("--chunk-size", "n_ctx_seq", type=COUNT, default=512, show_default=True, help="Tokens of a chunk.")
@click.option("--chunks", type=click.IntRange(min=1), default=40, show_default=True, help="Chunks of each text.")
@with_options(*BUDGET_OPTIONS)
@click.option("--ctx", "n_ctx", type=COUNT, default="4k", show_default=True, help="Context to plan memory for.")
@kv_list_option("f16")
@click.option(
    "-p", "n_prompt", type=click.IntRange(min=1), default=512, show_default=True, help="Tokens of the prompt."
)
@click.option(
    "-n", "n_generate", type=click.IntRange(min=1), default=128, show_default=True, help="Tokens to generate."
)
@repetitions_option(3)
@click.option("--no-rates", "rates", flag_value=False, default=True, help="Leave token rates out.")
@click.option("--use", metavar="USE", help="What the model is for: decides which file is advised.")
@click.option("--verdicts", type=INPUT, help="Thresholds of your own (TOML).")
@click.option("--report", type=OUTPUT, help="Write a page with table and pictures (HTML).")
@click.option("--markdown", type=OUTPUT, help="Write a table for a model card.")
@click.option("--csv", "csv_file", type=OUTPUT, help="Write comma-separated values.")
@force_option
@click.option("--keep", type=OUTPUT_FOLDER, metavar="DIR", help="Keep the files that --profiles makes.")
@click.option("--fresh", is_flag=True, help="Measure anew what is known from an earlier run.")
@threads_option
@pre_option
@norms_option
@local_files_option
@json_option
def command(  # the files to write, beside the request
    models: tuple[str, ...],
    report: Path | None,
    markdown: Path | None,
    csv_file: Path | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Compare GGUF files, or --profiles of one checkpoint: size, memory, perplexity, divergence, token rates, verdicts.

    All are measured on the same chunks of text against the unquantized model, so that differences are paired. A run
    that is stopped goes on where it was. KIND is one of chat, general, code, reasoning, long, language: a verdict for a use
    rests on text of its kind, and is unknown without. The exit code is that of the first file that failed, else 0.
    """
    from toolkit.render.comparison import comparison_document, comparison_lines, csv_text, markdown_text
    from toolkit.verbs.compare import CompareRequest, compare

    outputs = ((report, _page), (markdown, markdown_text), (csv_file, csv_text))
    for path, _ in outputs:
        refuse_existing(path, force=force)
    words = shlex.join(["gguf-toolkit", *sys.argv[1:]])
    result = compare(CompareRequest(models, force=force, command=words, **options), CONSOLE)
    for path, text in outputs:
        if path is not None:
            _save(path, text, result.comparison, force=force)
    show("compare", comparison_document(result.comparison) if as_json else comparison_lines(result.comparison))
    return result.exit_code


def _page(comparison: "Comparison") -> str:
    # Only here is a template engine loaded.
    from toolkit.render.comparison.page import page_html

    return page_html(comparison)


def _save(path: Path, text: "Callable[[Comparison], str]", comparison: "Comparison", *, force: bool) -> None:
    from toolkit.gguf.output_file import whole_or_absent

    data = text(comparison).encode("utf-8")
    with whole_or_absent(path, len(data), force=force) as work:
        work.write(0, data)
    CONSOLE.note(f"wrote {path}")
