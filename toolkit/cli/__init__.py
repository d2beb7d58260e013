"""The command line: one module a command, imported only when that command is called."""

import io
import os
import signal
import sys
from importlib import import_module
from typing import NoReturn

import click

from toolkit import __version__
from toolkit.errors import EnvironmentFaultError, ToolkitError

COMMANDS = {
    "fit": "Convert to the best file that fits a VRAM budget, and measure it.",
    "plan": "Show the memory that a model takes, and the split that fits.",
    "convert": "Convert a Hugging Face checkpoint to GGUF in one pass.",
    "convert-lora": "Convert a PEFT adapter to GGUF.",
    "quantize": "Requantize a GGUF file with a profile.",
    "verify": "Prove that a GGUF file still is its source.",
    "merge": "Join the files of a split model.",
    "imatrix": "Collect, show and merge importance matrices.",
    "run": "Let a model answer a prompt, split as it fits.",
    "profiles": "List, show and check quantization profiles.",
    "perplexity": "Measure how well a model predicts a text.",
    "kld": "Measure how far a quantized model is from its base.",
    "compare": "Compare files, or profiles of a checkpoint, and say which to take.",
    "bench": "Measure tokens per second, and the memory that is taken.",
    "inspect": "Show what a GGUF file or a checkpoint holds.",
    "architectures": "List the architectures that convert.",
    "doctor": "Show what this machine can do, and what is missing.",
}

EXIT_CODES = """
\b
Exit codes:
  0  good
  1  a measured result fails its threshold, or a file is not what its source says
  2  usage, or input that cannot be used
  3  nothing fits the budget
  4  the machine lacks something (library, disk space, permission)
  130  interrupted
  141  whoever reads the output has gone
"""


class LazyGroup(click.Group):
    """A group that knows its commands' names and summaries without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of a user's work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"toolkit.cli.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print names and summaries from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gguf-toolkit")
def cli() -> None:
    """From a Hugging Face checkpoint and a VRAM budget to a GGUF file that fits.

    \b
    Try it offline with the embedded model:
      gguf-toolkit fit demo --vram 64MiB --ctx 512
    """


def main() -> None:
    """Run the command line and exit with a documented code."""
    _survive_narrow_consoles()
    _end_like_an_interrupt()
    try:
        code = cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted: nothing was left under the output's name", err=True)
        sys.exit(130)
    except ToolkitError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        _fail(_what_the_system_said(error), EnvironmentFaultError.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, exit_code: int) -> NoReturn:
    click.echo(f"error: {' '.join(message.splitlines())}", err=True)
    sys.exit(exit_code)


def _what_the_system_said(error: OSError) -> str:
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{os.fsdecode(error.filename)}: {reason}"


def _end_like_an_interrupt() -> None:
    """Let a request to end unwind as Ctrl-C does, so that no work file is left behind."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def _survive_narrow_consoles() -> None:
    """Let characters that a console cannot show come out escaped instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
