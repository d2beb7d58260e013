"""The options that `convert` and `quantize` share, and how their results are shown."""

from typing import TYPE_CHECKING

import click

from toolkit.cli.chat_templates import writes_chat_template
from toolkit.cli.common import SIZE, json_option, show
from toolkit.cli.files import INPUT, INPUT_NAME
from toolkit.cli.options import force_option, imatrix_option, threads_option
from toolkit.cli.reporter import CONSOLE

if TYPE_CHECKING:
    from toolkit.verbs.convert import ConvertResult
    from toolkit.verbs.quantize import QuantizeResult

CONVERSION_OPTIONS = (
    click.option(
        "--profile",
        "-p",
        type=INPUT_NAME,
        default="q4_k_m",
        show_default=True,
        help="Profile name or file; see `profiles list`.",
    ),
    imatrix_option,
    writes_chat_template,
    click.option(
        "--rounding",
        type=click.Choice(["ggml", "calibrated"]),
        default="ggml",
        show_default=True,
        help="ggml: the same bytes as llama.cpp. calibrated: the same types with less error on text like that of --moments.",
    ),
    click.option(
        "--sequential",
        is_flag=True,
        help="Calibrate block after block: each weight is fitted to what the quantized blocks before it give for --text.",
    ),
    click.option("--text", type=INPUT_NAME, help="Calibration text for --sequential: a file in UTF-8, or `demo`."),
    click.option("--chunks", type=click.IntRange(min=5), help="Chunks of --text to calibrate on; default: all of it."),
    click.option(
        "--moments", type=INPUT, help="Second moments for --rounding calibrated, from `imatrix GGUF --moments`."
    ),
    click.option(
        "--tensor-type",
        "tensor_types",
        multiple=True,
        metavar="PATTERN=TYPE",
        help="Type for tensors whose name matches a regular expression; repeatable.",
    ),
    click.option("--split-max-size", type=SIZE, help="Write several files, none larger than this, e.g. 4G."),
    click.option(
        "--split-max-tensors", type=click.IntRange(min=1), help="Write several files, none with more tensors than this."
    ),
    click.option("--dry-run", is_flag=True, help="Print types, sizes and bits per weight; write nothing."),
    force_option,
    click.option("--allow-nan", is_flag=True, help="Convert weights that are NaN or infinite as well."),
    threads_option,
    click.option(
        "--verbose", "-v", is_flag=True, help="Also print what was left out or ignored, and every tensor that is kept."
    ),
    json_option,
)
"""The fields of `ConversionFields`, `--verbose` and `--json`."""


def show_conversion(result: "ConvertResult | QuantizeResult", *, verbose: bool, as_json: bool) -> None:
    """Print what a conversion wrote or would write."""
    from toolkit.render.conversion import conversion_document, conversion_lines

    for message in result.source.notes if verbose else ():
        CONSOLE.note(message)
    show("convert", conversion_document(result) if as_json else conversion_lines(result, verbose=verbose))
