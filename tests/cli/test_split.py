"""Split output and `merge` through the real commands."""

import json

import pytest

from toolkit.conversion.convert import ConversionOptions, write_gguf, write_shards
from toolkit.conversion.shards import ShardLimit, split_plan
from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.demo import demo_checkpoint
from toolkit.quant_profile import load_profile
from toolkit.sources.hf_source import source_from_checkpoint

PARTS = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]


def parts(folder, stem="m"):
    return sorted(path.name for path in folder.glob(f"{stem}-*-of-*.gguf"))


def test_a_dry_run_lists_the_files_that_are_then_written_and_any_of_them_stands_for_all(run_command, tmp_path):
    split = ("convert", "demo", "m.gguf", "-p", "q8_0", "--split-max-size", "2M", "--json")
    predicted = json.loads(run_command(*split, "--dry-run", cwd=tmp_path).stdout)
    assert list(tmp_path.iterdir()) == []
    written = json.loads(run_command(*split, cwd=tmp_path).stdout)
    assert predicted["files"] == written["files"]
    assert [(file["path"], file["file_bytes"]) for file in written["files"]] == [
        (name, (tmp_path / name).stat().st_size) for name in parts(tmp_path)
    ]
    assert written["output"] == "m-00001-of-00003.gguf"
    assert written["file_bytes"] == sum(file["file_bytes"] for file in written["files"])
    inspected = json.loads(run_command("inspect", tmp_path / "m-00002-of-00003.gguf", "--json").stdout)
    assert inspected["n_tensors"] == len(written["tensors"])

    whole = run_command("convert", "demo", "whole.gguf", "-p", "q8_0", cwd=tmp_path)
    merged = run_command("merge", tmp_path / "m-00003-of-00003.gguf", "--json", cwd=tmp_path)
    assert (whole.returncode, merged.returncode) == (0, 0), merged.stderr
    assert json.loads(merged.stdout)["output"] == "m.gguf"
    assert (tmp_path / "m.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Give a folder with the demo model, whole and in two parts."""
    folder = tmp_path_factory.mktemp("split")
    plan = plan_conversion(source_from_checkpoint(demo_checkpoint()), load_profile("bf16"))
    write_gguf(plan, folder / "whole.gguf")
    write_shards(
        plan, split_plan(plan, ShardLimit(max_tensors=40)), [folder / name for name in PARTS], ConversionOptions()
    )
    return folder


def test_quantize_splits_and_takes_split_input_and_never_replaces_it(folder, run_command, tmp_path):
    options = ("-p", "q8_0", "--split-max-tensors", "40", "--force")
    done = run_command("quantize", folder / PARTS[1], tmp_path / "m.gguf", *options)
    assert done.returncode == 0, done.stderr
    assert parts(tmp_path) == PARTS
    onto = run_command("quantize", folder / PARTS[1], folder / "m.gguf", *options)
    assert (onto.returncode, f"{PARTS[0]} is the input itself; name another output" in onto.stderr) == (2, True)


@pytest.mark.parametrize(
    ("part", "output", "message"),
    [
        ("whole.gguf", "x.gguf", "is one whole file already"),
        (PARTS[1], PARTS[0], "is the input itself; name another output"),
        (PARTS[1], "x-00001-of-00002.gguf", "is the name of one of several split files"),
    ],
)
def test_merge_refuses_in_a_line(part, output, message, folder, run_command):
    done = run_command("merge", folder / part, folder / output, "--force")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert message in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == [*PARTS, "whole.gguf"]
