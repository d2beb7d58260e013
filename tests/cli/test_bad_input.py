"""Bad input through the real command: one line, the documented exit code, nothing left behind."""

import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest
from editable_checkpoint import EditableCheckpoint, copy_directory, edit_case

QUANTIZED = Path(__file__).parents[1] / "kit" / "quantized" / "checkpoints"
SAFETENSORS = "model.safetensors"
FIRST_Q = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def folder(tmp_path):
    """Give an empty folder for outputs."""
    path = tmp_path / "out"
    path.mkdir()
    return path


@pytest.fixture
def checkpoint(tmp_path):
    """Give a checkpoint that a test may damage."""
    editable = edit_case("llama2", tmp_path)
    editable.save()
    return editable


def the_error(done, code):
    """Return the one line of an error, having checked that there is nothing else but warnings."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert all(line.startswith(("error: ", "warning: ")) for line in lines), done.stderr
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert lines[-1] == errors[0]
    return errors[0]


def refused(done, code, *phrases, folder):
    error = the_error(done, code)
    for phrase in phrases:
        assert phrase in error
    assert list(folder.iterdir()) == []


# What is wrong with a checkpoint


def no_config(checkpoint: EditableCheckpoint) -> None:
    (checkpoint.directory / "config.json").unlink()


def config_of(**changes):
    def damage(checkpoint: EditableCheckpoint) -> None:
        checkpoint.config |= changes
        checkpoint.save()

    return damage


def cut_at_half(checkpoint: EditableCheckpoint) -> None:
    file = checkpoint.directory / SAFETENSORS
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def header_beyond_the_file(checkpoint: EditableCheckpoint) -> None:
    (checkpoint.directory / SAFETENSORS).write_bytes(struct.pack("<Q", 1 << 40) + b"{}")


def overlapping(checkpoint: EditableCheckpoint) -> None:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    header = json.dumps({"a": entry, "b": entry | {"data_offsets": [4, 12]}}).encode()
    (checkpoint.directory / SAFETENSORS).write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))


def shard_only_in_the_index(checkpoint: EditableCheckpoint) -> None:
    weight_map = dict.fromkeys(checkpoint.tensors, SAFETENSORS) | {FIRST_Q: "model-00002-of-00002.safetensors"}
    text = json.dumps({"weight_map": weight_map})
    (checkpoint.directory / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def tensor_missing(checkpoint: EditableCheckpoint) -> None:
    del checkpoint.tensors[FIRST_Q]
    checkpoint.save()


def wrong_shape(checkpoint: EditableCheckpoint) -> None:
    dtype, rows = checkpoint.tensors[FIRST_Q]
    checkpoint.tensors[FIRST_Q] = (dtype, rows[:128])
    checkpoint.save()


def not_a_number(checkpoint: EditableCheckpoint) -> None:
    dtype, rows = checkpoint.tensors[FIRST_Q]
    rows = rows.copy()
    rows[3, 5] = numpy.nan
    checkpoint.tensors[FIRST_Q] = (dtype, rows)
    checkpoint.save()


def no_tokenizer(checkpoint: EditableCheckpoint) -> None:
    for file in checkpoint.directory.glob("tokenizer*"):
        file.unlink()


def config_is_a_directory(checkpoint: EditableCheckpoint) -> None:
    no_config(checkpoint)
    (checkpoint.directory / "config.json").mkdir()


@pytest.mark.parametrize(
    ("damage", "phrases"),
    [
        (no_config, ["has no config.json", "not a Hugging Face checkpoint"]),
        (config_is_a_directory, ["has no config.json"]),
        (config_of(architectures=["LlamaForCausalML"]), ["the nearest is LlamaForCausalLM; known: "]),
        (config_of(intermediate_size=2048), ["mlp.gate_proj.weight has shape [256, 256]", "intermediate_size = 2048"]),
        (cut_at_half, ["model.safetensors: truncated", "beyond the file"]),
        (header_beyond_the_file, ["its header claims 1,099,511,627,776 bytes but 2 follow"]),
        (overlapping, ["the data of a and b overlap"]),
        (shard_only_in_the_index, ["model-00002-of-00002.safetensors, absent from", "1 tensors are missing"]),
        (tensor_missing, [f"{FIRST_Q} is missing"]),
        (wrong_shape, [f"{FIRST_Q} has shape [128, 256], but config.json implies [256, 256]"]),
        (not_a_number, ["blk.0.attn_q.weight holds 1 NaN", "--allow-nan"]),
        (no_tokenizer, ["has no tokenizer: looked for tekken.json, tokenizer.model, tokenizer.json"]),
    ],
)
def test_a_damaged_checkpoint_is_refused(damage, phrases, checkpoint, run_command, folder):
    damage(checkpoint)
    refused(run_command("convert", checkpoint.directory, folder / "m.gguf"), 2, *phrases, folder=folder)


def test_a_checkpoint_that_is_not_there_is_refused(run_command, tmp_path, folder):
    refused(run_command("convert", tmp_path / "absent", folder), 2, "is not a directory", folder=folder)


def test_not_a_number_goes_on_where_it_is_allowed(checkpoint, run_command, folder):
    not_a_number(checkpoint)
    done = run_command("convert", checkpoint.directory, folder / "m.gguf", "-p", "bf16", "--allow-nan")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir()] == ["m.gguf"]


def test_a_weight_that_a_type_cannot_hold_is_refused(checkpoint, run_command, folder):
    _, rows = checkpoint.tensors[FIRST_Q]
    rows = rows.astype("<f4")
    rows[0, 0] = 1e5
    checkpoint.tensors[FIRST_Q] = ("F32", rows)
    checkpoint.save()
    done = run_command("convert", checkpoint.directory, folder / "m.gguf", "-p", "f16")
    refused(done, 2, "blk.0.attn_q.weight has weights too large for F16", "bf16", folder=folder)


# Usage


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (["-p", "q4_k_x"], "q4_k_x"),
        (["--tensor-type", "ffn_down=q9"], "q9"),
        (["--tensor-type", "no_such_tensor=q8_0"], "no_such_tensor"),
        (["--imatrix", "absent.dat"], "absent.dat"),
        (["-p", "iq2_xs"], "needs an importance matrix"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(options, phrase, kit_checkpoint, run_command, folder):
    refused(run_command("convert", kit_checkpoint("llama2"), folder, *options), 2, phrase, folder=folder)


def test_an_existing_output_is_kept_and_replaced_with_force(kit_checkpoint, run_command, folder):
    output = folder / "m.gguf"
    output.write_bytes(b"precious")
    done = run_command("convert", kit_checkpoint("llama2"), output)
    assert "m.gguf exists; give another name, or --force to replace it" in the_error(done, 2)
    assert output.read_bytes() == b"precious"
    assert run_command("convert", kit_checkpoint("llama2"), output, "--force").returncode == 0
    assert output.read_bytes().startswith(b"GGUF")


def test_a_file_of_the_checkpoint_is_never_replaced(checkpoint, run_command):
    weights = checkpoint.directory / SAFETENSORS
    before = weights.read_bytes()
    done = run_command("convert", checkpoint.directory, weights, "--force")
    assert f"is a file of {checkpoint.directory}, which is read here; name another output" in the_error(done, 2)
    assert weights.read_bytes() == before


def test_the_name_of_one_of_several_files_is_refused(kit_checkpoint, run_command, folder):
    done = run_command("convert", kit_checkpoint("llama2"), folder / "m-00001-of-00003.gguf")
    refused(done, 2, "m-00001-of-00003.gguf is the name of one of several split files", folder=folder)


def unwritable(tmp_path):
    """Return a folder in which nobody may create a file; permissions do not hold the superuser back, /proc does."""
    if os.geteuid() == 0:
        return Path("/proc")
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    return folder


def test_a_folder_that_cannot_be_written_to_is_refused(kit_checkpoint, run_command, tmp_path):
    assert "writ" in the_error(run_command("convert", kit_checkpoint("llama2"), unwritable(tmp_path) / "m.gguf"), 4)
    absent = run_command("convert", kit_checkpoint("llama2"), tmp_path / "absent" / "m.gguf")
    assert "does not exist; create it first" in the_error(absent, 4)


@pytest.mark.parametrize(
    ("name", "code", "phrase"), [("é" * 130, 2, "260 bytes, more than the 255"), ("é" * 120, 0, "")]
)
def test_a_name_is_as_long_as_the_file_system_allows(name, code, phrase, kit_checkpoint, run_command, folder):
    output = folder / name
    done = run_command("convert", kit_checkpoint("llama2"), output, "-p", "q8_0")
    if code:
        refused(done, code, phrase, folder=folder)
    else:
        assert done.returncode == 0, done.stderr
        assert [path.name for path in folder.iterdir()] == [name]


def test_a_path_that_is_too_long_is_refused(kit_checkpoint, run_command, folder):
    deep = folder.joinpath(*["d" * 250] * 20, "m.gguf")
    refused(run_command("convert", kit_checkpoint("llama2"), deep), 4, "name too long", folder=folder)


# Checkpoints that are quantized already


@pytest.mark.parametrize(
    ("case", "declared", "phrases"),
    [
        ("gptq_4bit", {"quant_method": "foo", "bits": 4}, ["already quantized (foo", "first module model.layers.0"]),
        ("gptq_4bit", None, ["belongs to a quantized checkpoint", "config.json"]),
        (None, {"quant_method": "gptq", "bits": 4}, ["says that the checkpoint is quantized (gptq", "no tensor is"]),
    ],
)
def test_a_quantization_that_is_not_understood_is_refused(case, declared, phrases, checkpoint, run_command, folder):
    directory = copy_directory(QUANTIZED / case, folder.parent / case) if case else checkpoint.directory
    file = directory / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) | {"quantization_config": declared}
    file.write_text(json.dumps(config), encoding="utf-8")
    refused(run_command("convert", directory, folder), 2, *phrases, folder=folder)


# A disk that is full


@pytest.fixture
def small_disk(folder):
    """Give a folder that holds 512 KiB, and what a process must do first: a small file system, else a limit on files."""
    mounted = os.geteuid() == 0 and shutil.which("mount") is not None
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    mounted = mounted and subprocess.run(command, capture_output=True, check=False).returncode == 0
    yield folder, None if mounted else limit_files
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def limit_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (512 << 10, 512 << 10))


@pytest.mark.parametrize("profile", ["f32", "q8_0"])
def test_a_full_disk_is_said_and_leaves_nothing(profile, small_disk, kit_checkpoint, run_command):
    folder, prepare = small_disk
    done = run_command("convert", kit_checkpoint("llama2"), folder / "m.gguf", "-p", profile, preexec_fn=prepare)
    refused(done, 4, "no space for m.gguf: needs " if prepare is None else "File too large", folder=folder)


def test_a_limit_on_the_size_of_files_is_said_and_leaves_nothing(kit_checkpoint, run_command, folder):
    done = run_command("convert", kit_checkpoint("llama2"), folder / "m.gguf", "-p", "f32", preexec_fn=limit_files)
    refused(done, 4, "cannot write", "File too large", folder=folder)


# Runs that are ended


@pytest.fixture(scope="module")
def large_checkpoint(tmp_path_factory):
    """Give a checkpoint of 34 million weights: some seconds of work for one thread, with a slow type."""
    checkpoint = edit_case("llama3", tmp_path_factory.mktemp("large"))
    hidden, ff, n_layer = 512, 2048, 8
    checkpoint.config |= {"hidden_size": hidden, "intermediate_size": ff, "num_hidden_layers": n_layer}
    random = numpy.random.default_rng(3)

    def weights(*shape):
        return "BF16", random.integers(0x3C00, 0x3D80, shape, dtype=numpy.uint16)

    vocabulary = checkpoint.tensors["model.embed_tokens.weight"][1].shape[0]
    tensors = {"model.embed_tokens.weight": weights(vocabulary, hidden), "model.norm.weight": weights(hidden)}
    tensors["lm_head.weight"] = weights(vocabulary, hidden)
    head = hidden // checkpoint.config["num_attention_heads"]
    kv = checkpoint.config["num_key_value_heads"] * head
    shapes = {
        "self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (ff, hidden), "mlp.up_proj": (ff, hidden),
        "mlp.down_proj": (hidden, ff), "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,),
    }  # fmt: skip
    for layer in range(n_layer):
        tensors |= {f"model.layers.{layer}.{name}.weight": weights(*shape) for name, shape in shapes.items()}
    checkpoint.tensors = tensors
    return checkpoint.save()


def heed_signals():
    """Undo what a suite run in the background, or under nohup, hands down: signals that are ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start_and_wait_for_the_work_file(checkpoint, output):
    command = [sys.executable, "-m", "toolkit", "convert", checkpoint, output, "-p", "iq3_s", "--threads", "1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    process = subprocess.Popen(command, **pipes, preexec_fn=heed_signals)  # noqa: PLW1509  no other thread runs
    while not any(path.stat().st_size for path in output.parent.glob("*.part")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_interrupted_leaves_nothing(number, large_checkpoint, folder):
    process = start_and_wait_for_the_work_file(large_checkpoint, folder / "m.gguf")
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert stdout == ""
    assert stderr.split("\n") == ["", "interrupted: nothing was left under the output's name", ""]
    assert list(folder.iterdir()) == []


def test_a_run_that_is_killed_leaves_no_output_and_the_next_one_cleans_up(large_checkpoint, run_command, folder):
    process = start_and_wait_for_the_work_file(large_checkpoint, folder / "m.gguf")
    second = run_command("convert", large_checkpoint, folder / "m.gguf", "-p", "bf16")
    assert f"process {process.pid} is writing m.gguf already" in the_error(second, 4)
    process.kill()
    process.communicate()
    assert [path.suffix for path in folder.iterdir()] == [".part"]
    third = run_command("convert", large_checkpoint, folder / "m.gguf", "-p", "bf16")
    assert third.returncode == 0, third.stderr
    assert [path.name for path in folder.iterdir()] == ["m.gguf"]


def test_a_damaged_gguf_file_is_refused_by_quantize(converted, run_command, tmp_path, folder):
    damaged = tmp_path / "cut.gguf"
    content = converted("llama2", "f16").read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    assert "cut.gguf" in the_error(run_command("quantize", damaged, folder / "m.gguf"), 2)
    assert list(folder.iterdir()) == []
    itself = run_command("quantize", damaged, damaged, "--force")
    assert "is the input itself; name another output" in the_error(itself, 2)


def test_a_read_only_checkpoint_converts_and_stays_as_it_was(checkpoint, run_command, folder):
    directory = copy_directory(checkpoint.directory, folder.parent / "read only")
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir()}
    for path in (*directory.iterdir(), directory):
        path.chmod(path.stat().st_mode & ~0o222)
    done = run_command("convert", directory, folder / "m.gguf", cwd="/")
    directory.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in directory.iterdir()} == before


# Sources that change while they are read


@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_source_that_is_cut_off_meanwhile_is_told_in_one_line(kept, large_checkpoint, folder, tmp_path):
    checkpoint = shutil.copytree(large_checkpoint, tmp_path / "checkpoint")
    process = start_and_wait_for_the_work_file(checkpoint, folder / "m.gguf")
    (weights,) = checkpoint.glob("*.safetensors")
    os.truncate(weights, int(kept * weights.stat().st_size))
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (2, "")
    assert (
        stderr
        == f"error: {weights} was cut off while it was read; nothing made of it is kept: download or copy it again\n"
    )
    assert list(folder.iterdir()) == []


def test_a_source_that_is_written_to_meanwhile_is_told_in_one_line(large_checkpoint, folder, tmp_path):
    checkpoint = shutil.copytree(large_checkpoint, tmp_path / "checkpoint")
    process = start_and_wait_for_the_work_file(checkpoint, folder / "m.gguf")
    (weights,) = checkpoint.glob("*.safetensors")
    with weights.open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"\7" * 8)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (2, "")
    assert stderr.startswith(f"error: {weights} was modified while it was read")
    assert stderr.count("\n") == 1
    assert list(folder.iterdir()) == []
