"""The command `plan`."""

from typing import Any

import click

from toolkit.cli.common import COUNT, emit_json, json_option, show
from toolkit.cli.files import INPUT, INPUT_NAME, SOURCE
from toolkit.cli.options import (
    BUDGET_OPTIONS,
    flash_attention_option,
    kv_list_option,
    local_files_option,
    pre_option,
    prefer_option,
    with_options,
)
from toolkit.cli.output import echo_block
from toolkit.cli.reporter import CONSOLE
from toolkit.errors import InputError

EXAMPLE = """
\b
Examples:
  gguf-toolkit plan model.gguf --vram 8GiB --ctx 16k
  gguf-toolkit plan ./checkpoint --vram 24GiB,12GiB --profile q4_k_m --profile q6_k
  gguf-toolkit plan config.json --vram 12GiB --max-ctx
  gguf-toolkit plan HuggingFaceTB/SmolLM2-135M-Instruct --vram 1GiB
  gguf-toolkit plan demo --vram 16MiB --sweep ctx=512,1k kv=f16,q8_0 profile=q4_k_m,q8_0
  eval "$(gguf-toolkit plan model.gguf --vram 8GiB --format shell)"
"""
_FORMATS = ["table", "json", "shell", "llama-server", "preset", "ollama", "python"]


@click.command(epilog=EXAMPLE)
@click.argument("source", metavar="SRC", type=SOURCE)
@click.argument("words", nargs=-1, metavar="[WORDS]...")
@with_options(*BUDGET_OPTIONS)
@click.option("--ctx", "n_ctx", type=COUNT, default="4k", show_default=True, help="Context length, of all sequences.")
@click.option("--profile", "-p", "profiles", type=INPUT_NAME, multiple=True, help="Only this profile; repeatable.")
@kv_list_option(otherwise="f16,q8_0")
@click.option("--parallel", "n_parallel", type=click.IntRange(1, 256), default=1, show_default=True, help="Sequences.")
@click.option("--kv-unified", is_flag=True, help="One KV cache for all sequences.")
@click.option("--ubatch", type=click.IntRange(min=1), default=512, show_default=True, help="Tokens computed at once.")
@flash_attention_option
@click.option("--swa-full", is_flag=True, help="Keep all tokens in sliding-window layers.")
@prefer_option
@click.option("--mmproj", type=INPUT, help="Projector for images, loaded beside the model.")
@click.option("--draft", type=INPUT, help="Draft model (GGUF), loaded beside the model.")
@click.option("--max-ctx", is_flag=True, help="Find the longest context that fits.")
@click.option("--sweep", "sweeps", is_flag=True, help="Grid of ctx=, kv= and profile= lists, given as WORDS.")
@click.option("--gpu-bandwidth", type=click.FloatRange(min=1), help="GB/s of GPU memory; default: asked of the driver.")
@click.option("--ram-bandwidth", type=click.FloatRange(min=1), help="GB/s of RAM; default: measured once.")
@click.option(
    "--device",
    type=click.Choice(["auto", "gpu", "simulated"]),
    default="auto",
    show_default=True,
    help="Whom to ask for memory.",
)
@pre_option
@local_files_option
@click.option("--no-cache", is_flag=True, help="Neither use nor keep answers on disk.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(_FORMATS),
    default="table",
    show_default=True,
    help="For people, or the best choice for another program.",
)
@json_option
def command(  # the words of a sweep, and the form of the answer
    source: str, words: tuple[str, ...], sweeps: bool, format_: str, as_json: bool, **options: Any
) -> None:
    """Show how much memory SRC takes and what fits.

    SRC is a GGUF file, a checkpoint (a directory, or org/name[@revision] on the hub, of which only config, vocabulary and
    the headers of shards are fetched), a config.json, or `demo`. Every number is llama.cpp's own, asked before anything
    is converted or loaded.
    """
    from toolkit.render.plan import TABLE, launch_block, launch_warnings, plan_document, table
    from toolkit.verbs.plan import PlanRequest, parse_sweep, plan

    if as_json and format_ != TABLE:
        raise click.UsageError("--json and --format are two forms of one answer; give one of them")
    if words and not sweeps:
        raise InputError(f"{words[0]!r} is one word too many; ctx=, kv= and profile= lists go with --sweep")
    result = plan(PlanRequest(source, sweep=parse_sweep(words) if sweeps else None, **options), CONSOLE)
    if as_json or format_ == "json":
        emit_json("plan", plan_document(result))
    elif format_ == TABLE:
        show("plan", table(result))
    else:
        text = launch_block(result, format_)
        for warning in launch_warnings(result, format_):
            CONSOLE.warn(warning)
        if result.model.path is None:
            path, profile = result.launch(result.choices[0]).path, result.choices[0].file.profile
            CONSOLE.note(f"{path} is still to be made: gguf-toolkit convert SRC {path} --profile {profile}")
        echo_block(text)
