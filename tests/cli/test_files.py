"""No command writes what it reads: a rule that is told from the types of all arguments and options."""

import os
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from toolkit.cli import COMMANDS, cli
from toolkit.cli.files import InputName, InputPath, OutputPath, SourceName
from toolkit.errors import InputError, OutputError

NAME_NO_FILE = {
    "architectures list: text", "architectures show: name", "base_kv", "bench: n_depth", "bench: n_generate", "bench: n_gpu_layers", "bench: n_prompt", "kv", "model_name",
    "override_tensor", "pre", "prompt",
    "rpc", "schema: document", "system", "tensor_types", "threads", "use", "vram", "words",
}  # fmt: skip
"""Parameters whose text is never a file's name; a new one belongs here, or has one of the types that say what it is."""


def every_command():
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        if isinstance(command, click.Group):
            yield from (((name, below), one) for below, one in command.commands.items())
        else:
            yield (name,), command


INPUTS = (InputPath, InputName, SourceName)
PAIRS = [
    pytest.param(words, output, source, id=f"{'-'.join(words)} {output.opts[-1]} onto {source.opts[-1]}")
    for words, command in every_command()
    for output in command.params
    for source in command.params
    if isinstance(output.type, OutputPath) and isinstance(source.type, INPUTS)
]


def test_every_parameter_says_whether_it_names_a_file_that_is_read_or_written():
    undeclared = {
        f"{' '.join(words)}: {parameter.name}"
        for words, command in every_command()
        for parameter in command.params
        if isinstance(parameter.type, click.Path | click.File | click.types.StringParamType)
        and not isinstance(parameter.type, InputPath | OutputPath)
        and not {parameter.name, f"{' '.join(words)}: {parameter.name}"} & NAME_NO_FILE
    }
    assert undeclared == set()


def test_the_commands_that_write_are_known_to_be_covered():
    writing = {
        " ".join(words) for words, command in every_command() for p in command.params if isinstance(p.type, OutputPath)
    }
    assert writing == {
        "fit", "convert", "convert-lora", "quantize", "merge", "imatrix collect", "imatrix merge", "perplexity", "kld", "compare",
    }  # fmt: skip
    assert writing == {
        " ".join(words) for words, command in every_command() if any(p.name == "force" for p in command.params)
    }


def arguments(words, given):
    """Return a command line that has what is required, and the parameters that are given."""
    _, command = next(found for found in every_command() if found[0] == words)
    line = list(words)
    for parameter in command.params:
        value = given.get(parameter.name)
        if value is None and parameter.required:
            value = given[None]
        if value is None:
            continue
        line += [str(value)] if isinstance(parameter, click.Argument) else [parameter.opts[-1], str(value)]
    return [*line, "--force"]


@pytest.mark.parametrize("disguise", [None, os.symlink, os.link], ids=["itself", "link", "hard link"])
@pytest.mark.parametrize(("words", "output", "source"), PAIRS)
def test_no_input_is_an_output_even_with_force(words, output, source, disguise, tmp_path):
    other, folder, alias = tmp_path / "other", tmp_path / "model", tmp_path / "alias"
    folder.mkdir()
    other.touch()
    victim = folder / "config.json"
    victim.write_bytes(b"{}")
    if disguise is not None:
        disguise(victim, alias)
    given = {
        None: other,
        source.name: folder if isinstance(source.type, SourceName) else victim,
        output.name: victim if disguise is None else alias,
    }
    with pytest.raises(InputError, match=r"name another output|is a file; name a folder"):
        CliRunner(catch_exceptions=False).invoke(cli, arguments(words, given))
    assert victim.read_bytes() == b"{}"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        {"other", "model"} | ({"alias"} if disguise else set())
    )


SAMPLES = {
    "imatrix": ("imatrix", "b.gguf", "-o", "b.gguf"),
    "kld": ("kld", "a.gguf", "--base", "b.gguf", "--save-logits", "b.gguf"),
    "report": ("compare", "a.gguf", "b.gguf", "--report", "b.gguf"),
    "markdown": ("compare", "a.gguf", "--base", "b.gguf", "--markdown", "link.gguf"),
    "csv": ("compare", "a.gguf", "b.gguf", "--csv", "hard.gguf"),
    "matrix": ("quantize", "a.gguf", "im", "--imatrix", "im"),
    "text": ("imatrix", "b.gguf", "--text", "t", "-o", "t"),
    "part": ("quantize", "s-00002-of-00002.gguf", "s-00001-of-00002.gguf", "-p", "bf16"),
    "default name": ("merge", "s-00001-of-00002.gguf"),
    "merge": ("imatrix", "merge", "im", "im2", "-o", "./im2"),
    "profile": ("convert", "demo", "own.toml", "-p", "own.toml"),
}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_an_input_named_as_output_is_refused_in_a_line(sample, tmp_path, run_command):
    for name in ("a.gguf", "b.gguf", "im", "im2", "t", "own.toml", "s-00001-of-00002.gguf", "s-00002-of-00002.gguf"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "link.gguf").symlink_to("b.gguf")
    (tmp_path / "hard.gguf").hardlink_to(tmp_path / "b.gguf")
    (tmp_path / "s.gguf").symlink_to("s-00002-of-00002.gguf")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    done = run_command(*sample, "--force", cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(Path.cwd())})
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    if sample[0] != "merge":  # whose parts here are no models
        assert "the input itself; name another output" in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_a_checkpoint_converts_to_may_be_replaced_beside_it(tmp_path):
    shutil.copytree(Path("toolkit/data/demo"), tmp_path / "model")
    for _ in range(2):
        found = CliRunner().invoke(cli, ["convert", f"{tmp_path}/model", f"{tmp_path}/model/", "-p", "bf16", "--force"])
        assert found.exit_code == 0, found.exception


def test_two_outputs_are_not_one_file(tmp_path):
    line = ["compare", "a.gguf", "--report", f"{tmp_path}/r", "--csv", f"{tmp_path}/../{tmp_path.name}/r"]
    with pytest.raises(InputError, match=r"r is given twice: for --report and for --csv"):
        CliRunner(catch_exceptions=False).invoke(cli, line)


@pytest.mark.parametrize(("name", "error", "message"), [
    ("none/", OutputError, r"the folder .*none/ does not exist; create it first"),
    ("file/", InputError, r"file/ names a folder, but .*file is a file; leave out the / at its end"),
])  # fmt: skip
@pytest.mark.parametrize("words", [("convert", "demo"), ("fit", "demo", "--out"), ("imatrix", "m.gguf", "-o")], ids=str)
def test_a_slash_at_the_end_names_a_folder(words, name, error, message, tmp_path):
    (tmp_path / "file").write_bytes(b"precious")
    with pytest.raises(error, match=message):
        CliRunner(catch_exceptions=False).invoke(cli, [*words, f"{tmp_path}/{name}", "--force"])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "words",
    [
        ("imatrix", "m.gguf", "-o"),
        ("perplexity", "m.gguf", "--save-logits"),
        ("kld", "m.gguf", "--base", "b.gguf", "--save-logits"),
        ("compare", "m.gguf", "--csv"),
    ],
    ids=lambda words: words[0],
)
def test_an_output_that_exists_is_refused_before_a_model_is_opened(words, tmp_path):
    (tmp_path / "out").write_bytes(b"precious")
    with pytest.raises(InputError, match=r"out exists; give another name, or --force to replace it"):
        CliRunner(catch_exceptions=False).invoke(cli, [*words, f"{tmp_path}/out"])
    assert (tmp_path / "out").read_bytes() == b"precious"
