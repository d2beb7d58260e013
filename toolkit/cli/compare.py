"""`compare`: files side by side, what each takes and what it loses, and which one to take."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.chat_templates import renders_chat_template
from toolkit.cli.common import COUNT, emit_json, json_option, note, warn
from toolkit.cli.files import INPUT, INPUT_NAME, OUTPUT, OUTPUT_FOLDER, SOURCE, refuse_existing
from toolkit.cli.options import (
    force_option,
    kv_list_option,
    local_files_option,
    norms_option,
    pre_option,
    repetitions_option,
    threads_option,
)
from toolkit.cli.places import budget_options, memory_memory_source
from toolkit.cli.progress import value_bar

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
@click.option("--window", type=COUNT, default=512, show_default=True, help="Tokens of a window.")
@click.option("--chunks", type=click.IntRange(min=1), default=40, show_default=True, help="Windows of each text.")
@budget_options
@click.option("--ctx", "n_ctx", type=COUNT, default="4k", show_default=True, help="Context to plan memory for.")
@kv_list_option("f16")
@click.option(
    "-p", "n_prompt", type=click.IntRange(min=1), default=512, show_default=True, help="Tokens of the prompt."
)
@click.option(
    "-n", "n_generate", type=click.IntRange(min=1), default=128, show_default=True, help="Tokens to generate."
)
@repetitions_option(3)
@click.option("--no-rates", is_flag=True, help="Leave token rates out.")
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
def command(models: tuple[str, ...], **options: Any) -> int:
    """Compare GGUF files, or --profiles of one checkpoint: size, memory, perplexity, divergence, token rates, verdicts.

    All are measured on the same windows of text against the unquantized model, so that differences are paired. A run
    that is stopped goes on where it was. KIND is one of chat, general, code, reasoning, long, language: a verdict for a use
    rests on text of its kind, and is unknown without. The exit code is that of the first file that failed, else 0.
    """
    from toolkit.cli.compare_report import print_comparison
    from toolkit.report import comparison_document

    for path, _ in _outputs(options):
        refuse_existing(path, force=options["force"])
    comparison = _compared(models, options)
    for path, render in _outputs(options):
        _save(path, render(comparison), force=options["force"])
    if options["as_json"]:
        emit_json("compare", comparison_document(comparison))
    else:
        print_comparison(comparison)
    return next((row.exit_code for row in comparison.rows if row.error), 0)


def _outputs(options: dict[str, Any]) -> "list[tuple[Path, Callable[[Comparison], str]]]":
    """Return the files that were asked for, each with what writes it."""
    from toolkit.report import csv_text, markdown_text, page_html

    renderers = (("report", page_html), ("markdown", markdown_text), ("csv_file", csv_text))
    return [(options[name], render) for name, render in renderers if options[name] is not None]


def _save(path: Path, text: str, *, force: bool) -> None:
    from toolkit.gguf.output_file import whole_or_absent

    data = text.encode("utf-8")
    with whole_or_absent(path, len(data), force=force) as work:
        work.write(0, data)
    note(f"wrote {path}")


def _compared(models: tuple[str, ...], options: dict[str, Any]) -> "Comparison":
    from toolkit.cli.compare_job import method_of, prepare
    from toolkit.comparison.machine import this_machine
    from toolkit.comparison.rows import Comparison
    from toolkit.comparison.run import Watcher, measure_rows
    from toolkit.machine.host import installed_version

    prepared = prepare(models, options)
    job = prepared.job
    for message in prepared.notes:
        warn(message)
    with memory_memory_source(in_child=not job.plan.settings.rpc) as memory_source:
        rows = measure_rows(job, memory_source, Watcher(note, value_bar))
    if job.store.reused:
        note(f"{job.store.reused} measurements are from an earlier run; --fresh measures anew")
    if job.store.unusable:
        warn(f"{job.store.unusable} kept measurements were none and are made again; --fresh makes all anew")
    return Comparison(
        model=prepared.name,
        rows=rows,
        method=method_of(job, options),
        machine=this_machine(installed_version),
        standard=prepared.standard,
        asked_use=prepared.use,
        notes=prepared.notes,
        command=shlex.join(["gguf-toolkit", *sys.argv[1:]]),
    )
