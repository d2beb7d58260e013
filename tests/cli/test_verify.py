"""The command `verify`, and the part of it that every conversion ends with."""

import json

import pytest
from altered_gguf import altered
from click.testing import CliRunner

from toolkit.cli.verify import command
from toolkit.conversion.convert import ConversionOptions, write_gguf
from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.errors import FidelityError, GgufError
from toolkit.gguf.format import uint32
from toolkit.quant_profile import load_profile
from toolkit.sources.hf_source import source_from_checkpoint
from toolkit.verification.file_check import check_finished

NAMES = [
    "tensors", "shapes", "blocks", "architecture", "token count", "vocabulary", "special tokens", "chat template", "weights",
    "finite", "loads", "token ids", "first logits",
]  # fmt: skip


def run(*arguments):
    return CliRunner().invoke(command, list(map(str, arguments)), catch_exceptions=True)


def test_a_person_reads_one_line_a_check(converted, kit_checkpoint):
    result = run(converted("llama2", "q8_0"), "--source", kit_checkpoint("llama2"))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line[9:23].strip() for line in lines] == NAMES
    assert {line.split()[0] for line in lines} == {"PASS"}


def test_a_script_reads_one_document_and_what_was_not_checked_is_unknown(converted, kit_checkpoint):
    result = run(converted("llama2", "q8_0"), "--source", kit_checkpoint("llama2"), "--json", "--no-run")
    document = json.loads(result.stdout)
    assert document["faithful"] is True
    assert [check["name"] for check in document["checks"]] == NAMES
    last = document["checks"][-1]
    assert (last["outcome"], last["observed"], last["evidence"]) == ("UNKNOWN", "not checked", "--no-run was given")


def test_a_failed_check_ends_the_command_with_code_1_and_names_it(run_command, converted, kit_checkpoint, tmp_path):
    path = altered(converted("llama2", "q8_0"), tmp_path / "bad.gguf", {"tokenizer.ggml.eos_token_id": uint32(1)})
    finished = run_command("verify", path, "--source", kit_checkpoint("llama2"), "--no-run", "--json")
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1].endswith(
        f"does not match {kit_checkpoint('llama2')}: special tokens, chat template"
    )
    assert json.loads(finished.stdout)["faithful"] is False


def test_a_gguf_file_may_be_the_source(converted):
    result = run(converted("llama2", "q8_0"), "--source", converted("llama2", "bf16"), "--full", "--no-run")
    assert result.exit_code == 0, result.output


def test_what_is_no_gguf_file_is_refused(kit_checkpoint):
    result = run(kit_checkpoint("llama2") / "config.json", "--source", kit_checkpoint("llama2"))
    assert isinstance(result.exception, GgufError)


@pytest.fixture
def plan(kit_checkpoint):
    return plan_conversion(source_from_checkpoint(kit_checkpoint("llama2")), load_profile("q8_0"))


def damaged(offset):
    """Return a check that damages the finished work file at `offset` and then makes the real check."""

    def check(work_file, plan):
        with work_file.open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)
            file.seek(offset)
            file.write(bytes([byte[0] ^ 1]))
        check_finished(work_file, plan)

    return check


def test_a_sound_file_passes_and_gets_its_name(plan, tmp_path):
    write_gguf(plan, tmp_path / "out.gguf", ConversionOptions(check=check_finished))
    assert (tmp_path / "out.gguf").stat().st_size == plan.file_bytes


def test_a_header_that_the_disk_changed_gives_no_file(plan, tmp_path):
    offset = plan.layout.header.index(b"<unk>")
    with pytest.raises(FidelityError, match=rf"another header than planned, from byte {offset:,} on"):
        write_gguf(plan, tmp_path / "out.gguf", ConversionOptions(check=damaged(offset)))
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_the_disk_changed_gives_no_file(plan, tmp_path):
    norm = next(index for index, tensor in enumerate(plan.tensors) if tensor.name == "output_norm.weight")
    with pytest.raises(
        FidelityError, match=r"row 0 of output_norm\.weight in the finished file is not what the source"
    ):
        write_gguf(plan, tmp_path / "out.gguf", ConversionOptions(check=damaged(plan.layout.offsets[norm] + 3)))
    assert list(tmp_path.iterdir()) == []


def test_without_a_source_it_says_what_is_missing_and_what_to_do_instead():
    done = CliRunner().invoke(command, ["m.gguf"])
    assert done.exit_code == 2
    assert "name that with --source SRC; to see what the file holds, use gguf-toolkit inspect m.gguf" in done.stderr
