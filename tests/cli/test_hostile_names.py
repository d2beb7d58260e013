"""Files from strangers call everything what steers a terminal: no command and no format passes it on."""

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy
import pytest
from altered_gguf import altered
from click.testing import CliRunner
from editable_checkpoint import edit_case
from made_up_comparison import comparison, ladder, row
from tiny_model import write_tiny_model

from toolkit.cli.output import echo_answer
from toolkit.gguf.format import ValueType, array, string
from toolkit.gguf.reader import read_gguf
from toolkit.importance.sums import ImatrixSums, TensorSums, write_imatrix
from toolkit.render.comparison import csv_text, markdown_text
from toolkit.render.comparison.page import page_html
from toolkit.visible_text import steers

HOSTILE = "x\x1b[2J\nPASS\r\u202e\x9b1m\x7fy"
SHOWN = r"x\x1b[2J\nPASS\r\u202e\x9b1m\x7fy"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def loadable(folder):
    """A GGUF file that is called so, as are its model, a token, and what its template refuses with."""
    plain = write_tiny_model(folder / "plain.gguf")
    metadata = read_gguf(plain).metadata
    tokens = [*metadata["tokenizer.ggml.tokens"].value]
    tokens[2] = HOSTILE
    words = {
        "general.name": string(HOSTILE),
        "general.basename": string(HOSTILE),
        "tokenizer.ggml.tokens": array(ValueType.STRING, tokens),
        "tokenizer.chat_template": string("{{ raise_exception('" + HOSTILE.replace("\n", "\\n") + "') }}"),
    }
    return altered(plain, folder / f"{HOSTILE}.gguf", words)


@pytest.fixture(scope="module")
def model(folder, loadable):
    """The same with a tensor that llama.cpp does not know, called so as well."""
    return altered(loadable, folder / f"t{HOSTILE}.gguf", copies={f"blk.0.{HOSTILE}.weight": "blk.0.attn_q.weight"})


@pytest.fixture(scope="module")
def checkpoint(folder):
    """A checkpoint with a tensor of that name."""
    edited = edit_case("llama2", folder / "case")
    edited.tensors[HOSTILE] = ("F32", numpy.zeros(4, numpy.float32))
    return edited.save()


@pytest.fixture(scope="module")
def matrix(folder):
    path = folder / "matrix.gguf"
    sums = TensorSums(numpy.ones((1, 256), numpy.float32), numpy.array([512]))
    write_imatrix(ImatrixSums({f"blk.0.{HOSTILE}.weight": sums}, 512, (HOSTILE,)), path)
    return path


@pytest.fixture(scope="module")
def profile(folder):
    path = folder / "p.toml"
    summary = json.dumps(HOSTILE).replace("\\u202e", "\\u202E")
    path.write_text(f'name = "P"\nsummary = {summary}\nfile_type = "MOSTLY_Q8_0"\ndefault = "Q8_0"\n', encoding="utf-8")
    return path


def printed(done):
    """Return all that a command printed, in which nothing may steer a terminal but the ends of our own lines."""
    text = done.stdout + done.stderr
    assert not steers(text.replace("\n", "")), ascii(text)
    assert not any(line.startswith("PASS\\r") for line in text.splitlines())
    return text


WALK = {
    "inspect": ("inspect", "MODEL", "--tensors"),
    "inspect --json": ("inspect", "MODEL", "--tensors", "--json"),
    "plan": ("plan", "LOADABLE", "--vram", "0", "--ctx", "512", "--no-cache"),
    "plan --json": ("plan", "LOADABLE", "--vram", "0", "--ctx", "512", "--no-cache", "--json"),
    "plan of a profile": ("plan", "LOADABLE", "--vram", "0", "--ctx", "512", "--no-cache", "--profile", "q8_0"),
    "quantize --dry-run": ("quantize", "MODEL", "--dry-run", "-p", "q8_0"),
    "quantize --json": ("quantize", "MODEL", "--dry-run", "-p", "q8_0", "--json"),
    "quantize": ("quantize", "LOADABLE", "-p", "q8_0"),
    "quantize with a matrix": ("quantize", "MODEL", "--dry-run", "-p", "q4_0", "--imatrix", "MATRIX"),
    "verify": ("verify", "PLAIN", "--source", "MODEL", "--no-run"),
    "verify the other way": ("verify", "MODEL", "--source", "PLAIN", "--no-run"),
    "verify --json": ("verify", "MODEL", "--source", "PLAIN", "--no-run", "--json"),
    "convert": ("convert", "CHECKPOINT", "FOLDER/c.gguf"),
    "imatrix show": ("imatrix", "show", "MATRIX", "--model", "MODEL"),
    "imatrix show --json": ("imatrix", "show", "MATRIX", "--json"),
    "run": ("run", "LOADABLE", "-p", "hi"),
    "perplexity": ("perplexity", "LOADABLE", "--as-chat", "--chunks", "1"),
    "merge": ("merge", "MODEL"),
    "profiles show": ("profiles", "show", "PROFILE"),
    "an unknown option": ("inspect", "--" + HOSTILE),
    "an unknown command": (HOSTILE,),
    "a file that is not there": ("inspect", "FOLDER/" + HOSTILE),
}


@pytest.mark.parametrize("name", WALK)
def test_no_command_passes_on_what_steers_a_terminal(
    name, run_command, loadable, model, checkpoint, matrix, profile, folder
):
    places = {
        "MODEL": model,
        "LOADABLE": loadable,
        "PLAIN": folder / "plain.gguf",
        "CHECKPOINT": checkpoint,
        "MATRIX": matrix,
        "PROFILE": profile,
    }
    words = [str(places.get(word, word)).replace("FOLDER", str(folder)) for word in WALK[name]]
    done = run_command(*words, cwd=folder)
    text = printed(done)
    assert "Traceback" not in text
    assert ("\\u001b[2J" if "--json" in words else "\\x1b[2J") in text or name == "merge"


def made_up():
    """Return a comparison of a model and files that are called so, one of which is a formula to a spreadsheet."""
    names = [HOSTILE, f"=1+{HOSTILE}", f" \t@{HOSTILE}", "a|b", "-2"]
    rows = [replace(row(name, 4, 4.5, 0.01), error=HOSTILE if index == 1 else "") for index, name in enumerate(names)]
    return replace(comparison([*ladder(), *rows]), model=HOSTILE)


@pytest.mark.parametrize("render", [page_html, markdown_text, csv_text])
def test_no_document_passes_on_what_steers_who_reads_it(render):
    text = render(made_up())
    # Markdown is one line a row, so that a line end is a blank there.
    shown = SHOWN.replace(r"\n", " ").replace(r"\r", " ") if render is markdown_text else SHOWN
    assert " ".join(shown.replace("\\", "").split()) in text.replace("\\", "").replace("&#x27;", "'")
    assert not steers(text.replace("\n", ""))


def test_no_cell_is_a_formula():
    lines = list(csv.reader(io.StringIO(csv_text(made_up()))))
    names = [line[0] for line in lines[1:]]
    assert names[-5:] == [SHOWN, f"'=1+{SHOWN}", f"' \\t@{SHOWN}", "a|b", "'-2"]
    assert not [
        cell for line in lines for cell in line if cell.lstrip().startswith(("=", "+", "-", "@")) and not number(cell)
    ]


def number(cell):
    try:
        return float(cell) is not None
    except ValueError:
        return False


def test_an_answer_that_goes_to_a_file_is_what_the_model_wrote():
    with CliRunner().isolation() as (out, _, _):
        echo_answer(HOSTILE)
        assert out.getvalue().decode() == HOSTILE


def test_an_answer_that_goes_to_a_terminal_keeps_its_lines_and_nothing_that_steers_it():
    ours, theirs = os.openpty()
    script = "import sys; from toolkit.cli.output import echo_answer; echo_answer(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", script, HOSTILE], stdout=theirs, check=True, env=os.environ | {"PYTHONUTF8": "1"}
    )
    os.close(theirs)
    found = os.read(ours, 1000).decode().replace("\r\n", "\n")
    os.close(ours)
    assert found == SHOWN.replace(r"\n", "\n")


def test_python_files_in_the_current_folder_are_never_run(loadable, tmp_path):
    for name in ("jinja2", "json", "random", "numpy", "llama_cpp", "toolkit"):
        (tmp_path / f"{name}.py").write_text("open('was_run', 'w')")
    command = [sys.executable, "-P", "-m", "toolkit", "run", str(loadable), "-p", "hi", "-n", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert "the chat template does not take the prompt" in done.stderr
    command = [*command, "--raw"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "was_run").exists()
