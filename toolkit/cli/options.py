"""Options that several commands take, each with one name, one meaning and one help text."""

from collections.abc import Callable
from typing import Any

import click

from toolkit.cli.common import Function
from toolkit.cli.files import INPUT

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
    help="Whether norms that llama.cpp wants with 1 added have it already (shifted: exports of MLX) or not (plain).",
)
imatrix_option: Option[Any] = click.option("--imatrix", type=INPUT, help="Importance matrix (GGUF or legacy .dat).")
flash_attention_option: Option[Any] = click.option(
    "--flash-attention",
    "-fa",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    show_default=True,
    help="Whether scores of the attention are computed in pieces, which a quantized V cache needs.",
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


def add_options(function: Function, options: tuple[Option[Any], ...]) -> Function:
    """Add options in the order in which help lists them."""
    for option in reversed(options):
        function = option(function)
    return function


def local_files_option(function: Function) -> Function:
    """Add `--local-files-only`."""
    return click.option(
        "--local-files-only", is_flag=True, help="For a model on the hub, use the copy in the cache; fetch nothing."
    )(function)
