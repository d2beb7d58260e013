"""Options that several commands take, each with one name, one meaning and one help text."""

from collections.abc import Callable
from typing import Any

import click

from toolkit.cli.chat_templates import renders_chat_template
from toolkit.cli.common import COUNT, SIZE, Function, json_option
from toolkit.cli.files import INPUT, INPUT_NAME
from toolkit.errors import InputError

Option = Callable[[Function], Function]

force_option: Option[Any] = click.option("--force", is_flag=True, help="Replace an existing output.")
threads_option: Option[Any] = click.option(
    "--threads", "-t", type=click.IntRange(min=1), help="CPU threads; default: physical cores."
)
pre_option: Option[Any] = click.option(
    "--pre", metavar="NAME", help="Name of the BPE pre-tokenizer, where it is not recognised."
)
norms_option: Option[Any] = click.option(
    "--norms",
    type=click.Choice(["checked", "plain", "shifted"]),
    default="checked",
    show_default=True,
    help="Whether 1 was added already to norms that llama.cpp wants so (shifted: exports of MLX) or not (plain); "
    "checked: the values decide.",
)
imatrix_option: Option[Any] = click.option("--imatrix", type=INPUT, help="Importance matrix (GGUF or legacy .dat).")
flash_attention_option: Option[Any] = click.option(
    "--flash-attention",
    "-fa",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    show_default=True,
    help="Use flash attention (needed for a quantized V cache).",
)
prefer_option: Option[Any] = click.option(
    "--prefer",
    type=click.Choice(["balance", "speed", "quality"]),
    default="balance",
    show_default=True,
    help="Where nothing of 4 bits or more fits whole: split Q4_K_M, take a smaller file, or split a larger one.",
)


def repetitions_option(default: int) -> Option[Any]:
    """Return `--repetitions`."""
    return click.option(
        "--repetitions",
        "-r",
        type=click.IntRange(min=1),
        default=default,
        show_default=True,
        help="Measurements of each token rate.",
    )


def with_options(*options: Option[Any]) -> Callable[[Function], Function]:
    """Return a decorator that adds options in the order in which help lists them."""

    def decorated(function: Function) -> Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorated


def local_files_option(function: Function) -> Function:
    """Add `--local-files-only`."""
    return click.option(
        "--local-files-only", is_flag=True, help="For a model on the hub, use the copy in the cache; fetch nothing."
    )(function)


def parse_kv(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Return the text that stands for types of a KV cache.

    Raises InputError if it stands for none.
    """
    from toolkit.llama.load_settings import KvTypes

    KvTypes.parse(value)
    return value.lower()


def parse_kv_list(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Return every text once, whether they were separated by commas or given one by one.

    Raises InputError if one does not stand for types of a KV cache.
    """
    from toolkit.llama.load_settings import KvTypes

    parts = [part.strip().lower() for value in values for part in value.split(",") if part.strip()]
    for part in parts:
        KvTypes.parse(part)
    if values and not parts:
        raise InputError(
            f"--kv {values[0]!r} names no type; write one such as f16, or several with commas between them"
        )
    return tuple(dict.fromkeys(parts))


kv_option: Option[Any] = click.option(
    "--kv", default="f16", show_default=True, callback=parse_kv, metavar="TYPE[/TYPE]", help="Type of the KV cache."
)


def kv_list_option(*default: str, otherwise: str = "") -> Option[Any]:
    """Return `--kv` for several types; `otherwise` says what stands for none, where there is no default."""
    return click.option(
        "--kv",
        multiple=True,
        default=default,
        show_default=otherwise or True,
        callback=parse_kv_list,
        metavar="TYPE[/TYPE][,...]",
        help="Types of the KV cache; repeatable.",
    )


BUDGET_OPTIONS: tuple[Option[Any], ...] = (
    click.option(
        "--vram", metavar="SIZE[,SIZE...]", help="Budget of each GPU; 0: the CPU alone. Default: what is free."
    ),
    click.option("--ram", type=SIZE, help="Budget of RAM; default: what is available now."),
    click.option(
        "--margin",
        type=SIZE,
        help="Memory to leave free on each GPU; default: 6 % of it, at most 512 MiB, or as doctor --calibrate measured.",
    ),
    click.option(
        "--rpc", multiple=True, metavar="HOST:PORT", help="llama.cpp RPC server; its --vram follows the GPUs'."
    ),
    click.option(
        "--rpc-required", is_flag=True, help="Stop if a server does not answer, instead of going on without it."
    ),
    click.option("--rpc-insecure", is_flag=True, help="Accept servers outside private networks."),
)
"""The fields of `DeviceFields`."""
PLACEMENT_OPTIONS: tuple[Option[Any], ...] = (
    *BUDGET_OPTIONS,
    flash_attention_option,
    click.option(
        "--override-tensor", "-ot", multiple=True, metavar="PATTERN=BUFFER", help="Where tensors lie; repeatable."
    ),
    click.option(
        "--no-mmap", "use_mmap", flag_value=False, default=True, help="Read the file into memory instead of mapping it."
    ),
)
"""The fields of `PlacementFields`."""
LOAD_OPTIONS: tuple[Option[Any], ...] = (
    click.option("-ngl", "--n-gpu-layers", type=click.IntRange(min=0), help="Layers on the GPU; default: what fits."),
    kv_option,
    threads_option,
    *PLACEMENT_OPTIONS,
)
"""The fields of `LoadFields`."""
text_option = click.option(
    "--text",
    type=INPUT_NAME,
    show_default="demo",
    help="Text file in UTF-8, `demo` (Python's manual), or `wikitext-2` (its test set, from the hub).",
)
TEXT_OPTIONS: tuple[Option[Any], ...] = (
    text_option,
    click.option("--as-chat", is_flag=True, help="Take paragraphs as turns, in the model's own chat format."),
    renders_chat_template,
    click.option("--ctx", "n_ctx_seq", type=COUNT, show_default="512", help="Tokens of a chunk."),
    click.option("--chunks", type=click.IntRange(min=1), help="Chunks to measure on; default: all of the text."),
    *LOAD_OPTIONS,
    json_option,
)
"""The fields of `TextFields`, and `--json`."""
