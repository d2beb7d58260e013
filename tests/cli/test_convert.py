"""`convert` through the real command: what it prints, what it writes, and that neither depends on the surroundings."""

import json
import os
import subprocess
import sys

import pytest
from editable_checkpoint import copy_directory
from twins import changed_case

from toolkit import __version__
from toolkit.gguf.reader import read_gguf


def test_json_is_one_document_with_the_keys_that_scripts_rely_on(kit_checkpoint, run_command, tmp_path):
    output = tmp_path / "m.gguf"
    done = run_command("convert", kit_checkpoint("llama3"), output, "-p", "q4_k_m", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == "gguf-toolkit/convert/2"
    assert document["toolkit_version"] == __version__
    assert document["llama_cpp_python_version"].startswith("0.")
    assert document["output"] == str(output)
    assert document["file_bytes"] == output.stat().st_size
    assert document["seconds"] > 0
    stored = read_gguf(output).tensors
    assert [(tensor["name"], tensor["type"], tensor["shape"], tensor["bytes"]) for tensor in document["tensors"]] == [
        (name, rows.type.name, list(rows.shape), rows.data.nbytes) for name, rows in stored.items()
    ]
    weights = sum(rows.data.nbytes * 8 / rows.type.bits_per_weight for rows in stored.values())
    n_bytes = sum(rows.data.nbytes for rows in stored.values())
    assert document["bits_per_weight"] == pytest.approx(8 * n_bytes / weights)


def test_a_dry_run_writes_nothing_and_knows_the_size(kit_checkpoint, run_command, tmp_path):
    options = ("-p", "q5_k_m", "--json")
    predicted = run_command("convert", kit_checkpoint("qwen3"), *options, "--dry-run", cwd=tmp_path)
    assert predicted.returncode == 0, predicted.stderr
    assert list(tmp_path.iterdir()) == []
    written = run_command("convert", kit_checkpoint("qwen3"), *options, cwd=tmp_path)
    before, after = json.loads(predicted.stdout), json.loads(written.stdout)
    assert before["output"] is None
    assert {key: before[key] for key in before if key not in ("output", "seconds")} == {
        key: after[key] for key in after if key not in ("output", "seconds")
    }


def test_a_dry_run_for_people_lists_types_fallbacks_and_bits(run_command, tmp_path):
    def odd_rows(checkpoint):
        checkpoint.config["intermediate_size"] = 352
        for name, (dtype, rows) in list(checkpoint.tensors.items()):
            if ".mlp." in name:
                shape = (256, 352) if "down_proj" in name else (352, 256)
                checkpoint.tensors[name] = (dtype, rows.ravel()[:1].repeat(352 * 256).reshape(shape))

    done = run_command("convert", changed_case("llama3", tmp_path, odd_rows), "-p", "q4_k_m", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "warning: 2 tensors (" in done.stderr
    assert "got a fallback type" in done.stderr
    assert "Q5_0 (for Q4_K)" in done.stdout or "Q8_0 (for Q6_K)" in done.stdout
    assert "bits per weight" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("place", ["here", "in a folder"])
def test_the_default_name_tells_model_size_and_type(place, kit_checkpoint, run_command, tmp_path):
    arguments = [tmp_path] if place == "in a folder" else []
    done = run_command("convert", kit_checkpoint("llama3"), *arguments, "-p", "q8_0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["Llama3-993K-Q8_0.gguf"]
    assert "wrote " in done.stdout


def test_a_default_name_drops_the_number_of_a_split_file(converted, run_command, tmp_path):
    source = tmp_path / "Model-5M-F16-00001-of-00001.gguf"
    source.write_bytes(converted("llama3", "f16").read_bytes())
    done = run_command("quantize", source, "-p", "q8_0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "Model-5M-Q8_0.gguf").exists()


def test_weights_that_are_not_read_are_named_in_one_line(run_command, tmp_path):
    directory = changed_case("llama3", tmp_path)
    (directory / "consolidated.safetensors").write_bytes((directory / "model.safetensors").read_bytes())
    quiet = run_command("convert", directory, "--dry-run")
    told = run_command("convert", directory, "--dry-run", "--verbose")
    said = "warning: ignored consolidated.safetensors: the weights are read from model.safetensors\n"
    assert quiet.stderr == said
    assert told.stderr.count("ignored consolidated.safetensors") == 1


@pytest.mark.parametrize(
    ("names", "source", "said", "model"),
    [
        ((), "demo", "", "Demo"),
        (("notes.txt",), "demo", "demo is the model inside the package; ./demo is always what is here\n", "Demo"),
        (("config.json",), "demo", "demo is the model in the folder here; ./demo is always what is here\n", None),
        (("config.json",), "./demo", "", None),
    ],
)
def test_a_folder_called_demo_hides_the_embedded_model_only_if_it_holds_one(
    names, source, said, model, run_command, tmp_path
):
    for name in names:
        (tmp_path / "demo").mkdir()
        (tmp_path / "demo" / name).write_text("{}")
    done = run_command("convert", source, "--dry-run", "--json", cwd=tmp_path)
    if model is None:
        assert done.returncode == 2
        assert "demo has no *.safetensors file" in done.stderr
        assert done.stderr.startswith(said)
    else:
        assert (done.returncode, done.stderr) == (0, said)
        assert json.loads(done.stdout)["files"][0]["path"] == "Demo-5.2M-Q4_K_M.gguf"


ODD_NAME = "模型 Ž é, it's"
PLAIN_LOCALE = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "LANG": "C"}


def run_bytes(*arguments, environment):
    command = [sys.executable, "-m", "toolkit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=120, env=os.environ | environment)


@pytest.mark.parametrize(
    "environment",
    [PLAIN_LOCALE, PLAIN_LOCALE | {"PYTHONIOENCODING": "cp1252"}, {"PYTHONUTF8": "0", "PYTHONIOENCODING": "gbk"}],
)
def test_no_code_page_and_no_locale_changes_a_byte(environment, kit_checkpoint, tmp_path):
    directory = copy_directory(kit_checkpoint("llama3"), tmp_path / ODD_NAME)
    expected = tmp_path / "expected.gguf"
    plain = run_bytes("convert", directory, expected, "-p", "q8_0", environment={"PYTHONUTF8": "1"})
    assert plain.returncode == 0, plain.stderr
    folder = tmp_path / "out é 模"
    folder.mkdir()
    done = run_bytes("convert", directory, folder / "é.gguf", "-p", "q8_0", environment=environment)
    assert done.returncode == 0, done.stderr
    assert (folder / "é.gguf").read_bytes() == expected.read_bytes()


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_json_stays_json_on_a_console_of_few_letters(encoding, kit_checkpoint, tmp_path):
    directory = copy_directory(kit_checkpoint("llama3"), tmp_path / f"{ODD_NAME} \N{GRINNING FACE}")
    output = tmp_path / "é模\N{GRINNING FACE}.gguf"
    environment = {"PYTHONIOENCODING": encoding}
    done = run_bytes("convert", directory, output, "-p", "q8_0", "--json", environment=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.decode(encoding))["output"] == str(output)
    people = run_bytes("convert", directory, output, "-p", "q8_0", "--dry-run", environment=environment)
    assert people.returncode == 0, people.stderr
    assert b"Traceback" not in people.stderr


def test_an_error_about_a_name_that_the_console_cannot_show_is_still_one_line(tmp_path):
    done = run_bytes("convert", tmp_path / ODD_NAME, environment={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: ")
    assert len(done.stderr.splitlines()) == 1


def test_temporary_files_may_lie_anywhere(kit_checkpoint, tmp_path):
    temporary = tmp_path / f"temp {ODD_NAME}"
    temporary.mkdir()
    environment = {name: str(temporary) for name in ("TMPDIR", "TEMP", "TMP")}
    done = run_bytes("convert", kit_checkpoint("llama3"), tmp_path / "m.gguf", "-p", "q8_0", environment=environment)
    assert done.returncode == 0, done.stderr
    assert list(temporary.iterdir()) == []
