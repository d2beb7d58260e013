"""The command `doctor`."""

from typing import Any

import click

from toolkit.cli.common import json_option, show
from toolkit.cli.reporter import CONSOLE
from toolkit.errors import EnvironmentFaultError

EXAMPLE = """
\b
Examples:
  gguf-toolkit doctor
  gguf-toolkit doctor --json
  gguf-toolkit doctor --calibrate
"""


@click.command(epilog=EXAMPLE)
@click.option("--no-measure", "measure", flag_value=False, default=True, help="Do not measure the bandwidth of RAM.")
@click.option(
    "--calibrate", is_flag=True, help="Measure what a process takes of each GPU beyond buffers; plans use it."
)
@json_option
@click.pass_context
def command(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    """Show GPUs and what is free on them, RAM, disk, threads, bandwidth, versions, and what is missing.

    The exit code is 4 where llama-cpp-python is not installed or does not compute on this processor, and with --calibrate
    where there is no GPU to measure.
    """
    from toolkit.render.doctor import doctor_document, doctor_lines
    from toolkit.verbs.doctor import DoctorRequest, doctor

    result = doctor(DoctorRequest(**options), CONSOLE)
    show("doctor", doctor_document(result) if as_json else doctor_lines(result))
    if not result.healthy:
        ctx.exit(EnvironmentFaultError.exit_code)
