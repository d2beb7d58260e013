"""Every option of every command with values that nobody means: one line and a documented exit code, never a traceback."""

import click
import pytest
from click.testing import CliRunner

from toolkit.cli import COMMANDS, cli
from toolkit.errors import ToolkitError

ODD = ("", ",", "-1", "nan", "1e999", "9" * 30, "=", "a=", "é\u202e{}", "a" * 300)
REAL = {
    "plan": (
        ("plan", "demo", "--ctx", "512", "--vram", "8MiB"),
        ("--vram", "--ram", "--margin", "--rpc", "--kv", "--profile", "--ctx"),
    ),
    "sweep": (("plan", "demo", "--vram", "8MiB", "--sweep"), ("ctx", "kv", "profile")),
    "convert": (
        ("convert", "demo", "--dry-run"),
        ("--profile", "--tensor-type", "--metadata", "--split-max-size", "--pre", "--model-name"),
    ),
}
"""commands that are cheap on the embedded model, and the options whose text is read when the model has been"""


def commands():
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        if isinstance(command, click.Group):
            yield from (((name, below), each) for below, each in command.commands.items())
        else:
            yield (name,), command


def options():
    for words, command in commands():
        for option in command.params:
            if isinstance(option, click.Option) and not option.is_flag:
                yield pytest.param(
                    words, command, max(option.opts, key=len), id=f"{' '.join(words)} {max(option.opts, key=len)}"
                )


def ended(arguments):
    """Run a command in this process; return its exit code, and raise what is not a documented error."""
    done = CliRunner().invoke(cli, arguments)
    error = done.exception
    if error is None or isinstance(error, SystemExit):
        return done.exit_code
    if isinstance(error, ToolkitError):
        return error.exit_code
    raise error


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("words", "command", "option"), list(options()))
def test_an_odd_value_is_read_or_refused_in_words(words, command, option):
    arguments = ["x" for each in command.params if isinstance(each, click.Argument) and each.required]
    needed = [each for each in command.params if isinstance(each, click.Option) and each.required]
    others = [text for each in needed if option not in each.opts for text in (each.opts[0], "x")]
    for value in ODD:
        try:
            command.make_context(" ".join(words), [option, value, *others, *arguments])
        except (click.ClickException, ToolkitError) as error:
            message = error.format_message() if isinstance(error, click.ClickException) else str(error)
            assert message.strip(), value
            assert "\n" not in message.strip(), value


@pytest.mark.parametrize(("arguments", "option"), [(words, each) for words, names in REAL.values() for each in names])
@pytest.mark.parametrize("value", ["", ",", "9" * 30, "é\u202e{}"])
def test_an_odd_value_that_is_read_late_ends_in_words(arguments, option, value):
    words = (f"{option}={value}",) if not option.startswith("-") else (option, value)
    assert ended([*arguments, *words]) in (0, 2, 3, 4)


@pytest.mark.parametrize("value", ["", ",", " ,"])
def test_a_list_of_kv_types_without_one_is_refused(value):
    assert ended(["bench", "m.gguf", "--kv", value]) == 2
