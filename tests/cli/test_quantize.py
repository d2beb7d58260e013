"""`quantize` through the real command."""

import json

import pytest

from toolkit.gguf.reader import read_gguf


def test_it_writes_what_convert_writes_under_the_name_that_convert_gives(
    kit_checkpoint, converted, run_command, tmp_path
):
    (tmp_path / "llama3-BF16.gguf").symlink_to(converted("llama3", "bf16"))
    done = run_command("quantize", "llama3-BF16.gguf", "-p", "q5_k_m", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "wrote llama3-Q5_K_M.gguf in " in done.stdout
    again = run_command("convert", kit_checkpoint("llama3"), tmp_path / "again.gguf", "-p", "q5_k_m")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "llama3-Q5_K_M.gguf").read_bytes() == (tmp_path / "again.gguf").read_bytes()


def test_json_is_one_document_with_the_keys_of_convert(converted, run_command, tmp_path):
    output = tmp_path / "m.gguf"
    done = run_command("quantize", converted("llama3", "f16"), output, "-p", "q6_k", "-t", "1", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == "gguf-toolkit/convert/2"
    assert (document["output"], document["file_bytes"]) == (str(output), output.stat().st_size)
    stored = read_gguf(output).tensors
    assert [(tensor["name"], tensor["type"]) for tensor in document["tensors"]] == [
        (name, rows.type.name) for name, rows in stored.items()
    ]


def test_a_dry_run_writes_nothing_and_knows_the_size(converted, run_command, tmp_path):
    source = converted("qwen3", "bf16")
    before = json.loads(run_command("quantize", source, "--dry-run", "--json", cwd=tmp_path).stdout)
    assert (before["output"], list(tmp_path.iterdir())) == (None, [])
    done = run_command("quantize", source, "m.gguf", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m.gguf").stat().st_size == before["file_bytes"]


def test_a_type_for_some_tensors_is_followed(converted, run_command, tmp_path):
    output = tmp_path / "m.gguf"
    done = run_command("quantize", converted("llama3", "bf16"), output, "--tensor-type", "ffn_down=q8_0")
    assert done.returncode == 0, done.stderr
    types = {name: rows.type.name for name, rows in read_gguf(output).tensors.items()}
    assert {types[name] for name in types if "ffn_down" in name} == {"Q8_0"}
    assert {types[name] for name in types if "ffn_up" in name} == {"Q4_K"}


@pytest.mark.parametrize("first", ["q4_k_m", "q3_k_s"])
def test_a_file_of_few_bits_needs_permission(first, converted, run_command, tmp_path):
    command = ("quantize", converted("llama3", first), tmp_path / "m.gguf", "-p", "q2_k")
    refused = run_command(*command)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert "start from a bf16, f16 or q8_0 file (`quantize --allow-requantize` does it anyway" in refused.stderr
    assert list(tmp_path.iterdir()) == []
    allowed = run_command(*command, "--allow-requantize")
    assert allowed.returncode == 0, allowed.stderr
    assert ": requantizing " in allowed.stderr


def test_a_profile_that_needs_importance_is_refused_without(converted, run_command, tmp_path):
    done = run_command("quantize", converted("llama3", "bf16"), tmp_path / "m.gguf", "-p", "iq2_xxs")
    assert done.returncode == 2
    assert "needs an importance matrix" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_input_is_not_replaced_even_by_force(converted, run_command, tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(converted("llama3", "bf16").read_bytes())
    before = path.read_bytes()
    (tmp_path / "link.gguf").symlink_to(path)
    for output in (path, tmp_path / "link.gguf"):
        done = run_command("quantize", path, output, "--force")
        assert done.returncode == 2
        assert "is the input itself; name another output" in done.stderr
    assert path.read_bytes() == before
