"""The command line: one module a command, imported only when that command is called."""

import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from toolkit import __version__
from toolkit.cli.output import show_usage_error, tell
from toolkit.errors import EnvironmentFaultError, ToolkitError
from toolkit.gguf.inputs import remembering_inputs

COMMANDS = {
    "fit": "Convert to the best file that fits a VRAM budget, and measure it.",
    "plan": "Show the memory that a model takes, and the split that fits.",
    "convert": "Convert a Hugging Face checkpoint to GGUF in one pass.",
    "convert-lora": "Convert an adapter of PEFT or MLX to GGUF.",
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
    "schema": "Print the JSON Schema of what a command prints with --json.",
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
  70  a bug of the toolkit: please report it
  129, 130, 143  ended by SIGHUP, SIGINT (Ctrl-C), SIGTERM
  141  whoever reads the output has gone
"""
_BUG, _READER_GONE = 70, 141
_TRACEBACK = "GGUF_TOOLKIT_TRACEBACK"
"""the environment variable that has the traceback of a bug shown"""
_ENDING_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


class _ReaderGoneError(Exception):
    """A broken pipe: click would end with 1 for the system's own error."""


class _EndedError(KeyboardInterrupt):
    """A signal that asks for the end: it unwinds as Ctrl-C does, so that no work file is left behind."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


class LazyGroup(click.Group):
    """A group that knows its commands' names and summaries without importing them."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run one command; what it reads it cannot write."""
        with remembering_inputs():
            return super().main(*args, **kwargs)

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Parse, and print what `--help` asks for."""
        with _broken_pipes_told():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        with _broken_pipes_told():
            return super().invoke(ctx)

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


@contextmanager
def _broken_pipes_told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise _ReaderGoneError from error


def main() -> None:
    """Run the command line and exit with a documented code."""
    _survive_narrow_consoles()
    try:
        _end_like_an_interrupt()
        logging.getLogger("toolkit").addHandler(_Warnings())
        code = _run()
        _heed_no_more_signals()
    except KeyboardInterrupt as error:
        _heed_no_more_signals()
        code = _interrupted(error)
    # What is left in the buffers would be written, and fail, after the last line of Python.
    _silence_broken_pipes()
    sys.exit(code)


def _run() -> int:
    """Return the exit code of the command; say why it is not 0."""
    try:
        code = _code_of_the_command()
        if sys.stdout is not None:
            sys.stdout.flush()
    except (_ReaderGoneError, BrokenPipeError):
        return _READER_GONE
    return code


def _code_of_the_command() -> int:
    try:
        code = cli(standalone_mode=False)
        _check_what_was_read()
    except click.ClickException as error:
        show_usage_error(error)
        return error.exit_code
    except click.Abort as error:
        raise (error.__cause__ or KeyboardInterrupt()) from error
    except ToolkitError as error:
        return _failed(str(error), error.exit_code)
    except (BrokenPipeError, _ReaderGoneError):
        raise
    except OSError as error:
        return _failed(_what_the_system_said(error), EnvironmentFaultError.exit_code)
    except MemoryError as error:
        return _failed(str(error) or "not enough memory", EnvironmentFaultError.exit_code)
    except Exception as error:
        return _a_bug(error)
    return code if isinstance(code, int) else 0


def _a_bug(error: Exception) -> int:
    """Ask for a report: whatever a user gives, the toolkit answers with an error of its own, so that this is its own fault."""
    place = next((frame for frame in reversed(traceback.extract_tb(error.__traceback__)) if _is_ours(frame)), None)
    where = f" in {Path(place.filename).name} line {place.lineno}" if place else ""
    if os.environ.get(_TRACEBACK, "0") not in ("", "0"):
        for line in "".join(traceback.format_exception(error)).splitlines():
            tell(line)
    return _failed(
        f"this is a bug, please report: {type(error).__name__}: {error}{where} ({_TRACEBACK}=1 shows more)", _BUG
    )


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return Path(frame.filename).is_relative_to(Path(__file__).parents[1])


def _check_what_was_read() -> None:
    """Raise InputError for a file that was cut off while it was read, if nobody has noticed."""
    read = sys.modules.get("toolkit.machine.mapped_files")
    if read is not None:
        read.check_not_cut_off()


def _interrupted(error: KeyboardInterrupt) -> int:
    notes = ", ".join(getattr(error, "__notes__", ()))
    with suppress(BrokenPipeError):
        tell(f"interrupted: {notes}" if notes else "interrupted")
    return error.exit_code if isinstance(error, _EndedError) else _EndedError(signal.SIGINT).exit_code


def _failed(message: str, exit_code: int) -> int:
    tell(f"error: {' '.join(message.splitlines())}")
    return exit_code


class _Warnings(logging.Handler):
    """Says on stderr what the library warns of."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message in the form that `warn` has."""
        tell(f"warning: {record.getMessage()}")


def _what_the_system_said(error: OSError) -> str:
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{os.fsdecode(error.filename)}: {reason}"


def _end_like_an_interrupt() -> None:
    """Let a request to end unwind as Ctrl-C does; one that the parent ignores, as nohup does, stays ignored."""
    for number in _ending_signals():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise_ended)


def _raise_ended(number: int, _frame: FrameType | None) -> NoReturn:
    raise _EndedError(number)


def _heed_no_more_signals() -> None:
    """Ignore what comes after the command is done, or has been undone: its exit code is settled."""
    for number in _ending_signals():
        signal.signal(number, signal.SIG_IGN)


def _ending_signals() -> list[signal.Signals]:
    return [signal.Signals[name] for name in _ENDING_SIGNALS if hasattr(signal, name)]


def _silence_broken_pipes() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _survive_narrow_consoles() -> None:
    """Let characters that a console cannot show come out escaped instead of ending the command."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            if isinstance(stream.buffer, io.FileIO):
                # PYTHONUNBUFFERED: what a pipe takes in part only is lost in silence. click flushes after every line.
                encoding, raw = stream.encoding, stream.detach()
                stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding)
                setattr(sys, name, stream)
            stream.reconfigure(errors="backslashreplace")
