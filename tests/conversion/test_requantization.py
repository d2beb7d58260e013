"""The requantization error is measured on the weights, and nothing is said where there is none."""

import json

import numpy
import pytest
from compare import KIT

from toolkit.conversion.convert import write_gguf
from toolkit.conversion.requantization import measure_requantization, requantization_warning
from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.gguf.rows import row_count
from toolkit.llama.quantizer import from_float32, to_float32
from toolkit.memory.plannable import profiles_worth_planning
from toolkit.model_source import unquantized_profile
from toolkit.quant_profile import load_profile
from toolkit.sources.gguf_source import source_from_gguf
from toolkit.sources.hf_source import source_from_checkpoint
from toolkit.verification import Reference, run_checks

CHECKPOINTS = KIT / "quantized" / "checkpoints"


def cost(source, profile):
    return measure_requantization(source, plan_conversion(source, load_profile(profile)))


def test_the_error_is_that_of_all_rows_within_a_few_per_cent():
    source = source_from_checkpoint(CHECKPOINTS / "awq_4bit")
    found = cost(source, "q4_0")
    square = length = 0.0
    for tensor in (tensor for tensor in source.tensors if tensor.packed_bytes is not None):
        before = to_float32(tensor.source.read_rows(0, row_count(tensor.shape)), tensor.source.type)
        after = to_float32(
            from_float32(numpy.ascontiguousarray(before), found_type(source, tensor.name)),
            found_type(source, tensor.name),
        )
        square, length = square + float(((after - before) ** 2).sum()), length + float((before**2).sum())
    assert found.relative_error == pytest.approx((square / length) ** 0.5, rel=0.1)
    assert (found.n_tensors, found.types, found.avoidable) == (7, ("Q4_0",), True)


def found_type(source, name):
    plan = plan_conversion(source, load_profile("q4_0"))
    return next(tensor.type for tensor in plan.tensors if tensor.name == name)


@pytest.mark.parametrize("case", ["gptq_4bit", "gptq_8bit", "bnb_nf4", "fp8_block", "compressed_int4"])
def test_every_method_costs_more_in_fewer_bits(case):
    source = source_from_checkpoint(CHECKPOINTS / case)
    in_bits = [cost(source, profile).relative_error for profile in ("q8_0", "q5_0", "q4_0")]
    assert 0.001 < in_bits[0] < in_bits[1] < in_bits[2] < 0.2


@pytest.mark.parametrize("profile", ["keep", "f16", "f32"])
def test_what_is_kept_or_widened_costs_nothing(profile):
    assert cost(source_from_checkpoint(CHECKPOINTS / "gptq_4bit"), profile) is None


def test_it_is_avoidable_only_where_gguf_has_the_grid():
    source = source_from_checkpoint(CHECKPOINTS / "fp8_block")
    assert not cost(source, "q4_k_m").avoidable
    assert "keep" not in requantization_warning(source, plan_conversion(source, load_profile("q4_k_m")))


def test_a_plain_checkpoint_and_a_file_of_8_bits_are_rounded_once(kit_checkpoint, converted):
    assert cost(source_from_checkpoint(kit_checkpoint("llama3")), "q4_0") is None
    assert cost(source_from_gguf(converted("llama3", "q8_0")), "q4_0") is None


def test_a_gguf_file_of_4_bits_is_rounded_again(converted):
    found = cost(source_from_gguf(converted("llama3", "q4_0"), allow_requantize=True), "q4_1")
    assert found.types == ("Q4_1",)
    assert 0.001 < found.relative_error < 0.1


@pytest.mark.parametrize("stored", ["q6_k", "q5_k_s"])
def test_a_gguf_file_of_5_or_6_bits_is_rounded_again(stored, converted, run_command, tmp_path):
    found = cost(source_from_gguf(converted("llama3", stored)), "q4_0")
    assert (found.source_types[0], found.types[0]) == (stored.upper().removesuffix("_S"), "Q4_0")
    assert 0.01 < found.relative_error < 0.2
    assert cost(source_from_gguf(converted("llama3", stored)), stored) is None
    finished = run_command("quantize", converted("llama3", stored), tmp_path / "out.gguf", "-p", "q4_0")
    (line,) = [line for line in finished.stderr.splitlines() if "requantizing" in line]
    assert line.startswith(f"warning: the source is quantized already ({', '.join(found.source_types)}): requantizing")
    assert f"adds an error of {found.relative_error:.1%}" in line


def test_the_commands_say_it_in_one_line(run_command, tmp_path):
    finished = run_command("convert", CHECKPOINTS / "gptq_4bit", tmp_path / "out.gguf", "-p", "q4_0")
    (line,) = [line for line in finished.stderr.splitlines() if "requantizing" in line]
    assert line.startswith(
        "warning: the source is quantized already (gptq, 4 bits): requantizing 7 tensors to Q4_0 adds an"
    )
    assert "--profile keep avoids it" in line
    kept = run_command("convert", CHECKPOINTS / "gptq_4bit", tmp_path / "kept.gguf", "-p", "keep")
    assert kept.stderr == ""
    assert "kept 7 tensors as the source has them: equal to it\n" in kept.stdout


def test_every_kept_tensor_is_in_the_document_with_its_difference(run_command):
    finished = run_command("convert", CHECKPOINTS / "awq_4bit", "--dry-run", "-p", "keep", "--json")
    tensors = {tensor["name"]: tensor for tensor in json.loads(finished.stdout)["tensors"]}
    assert 0 < tensors["blk.0.attn_q.weight"]["worst_difference"] < 1e-3
    assert "worst_difference" not in tensors["token_embd.weight"]


def test_more_bits_than_a_quantized_source_has_are_not_worth_planning(kit_checkpoint):
    ladder = ("Q8_0", "Q6_K", "Q4_0", "Q2_K")
    assert profiles_worth_planning(source_from_checkpoint(CHECKPOINTS / "gptq_4bit"), ladder) == (
        "KEEP",
        "Q4_0",
        "Q2_K",
    )
    assert profiles_worth_planning(source_from_checkpoint(CHECKPOINTS / "fp8_block"), ladder) == ladder
    assert profiles_worth_planning(source_from_checkpoint(kit_checkpoint("llama3")), ladder) == ladder


def test_the_baseline_of_a_quantized_source_is_not_its_float32():
    assert unquantized_profile(source_from_checkpoint(CHECKPOINTS / "gptq_4bit")) == "f16"


def test_a_kept_file_passes_every_check_against_its_source(tmp_path):
    for case in ("gptq_4bit", "awq_4bit", "compressed_int4_asym"):
        source, path = source_from_checkpoint(CHECKPOINTS / case), tmp_path / f"{case}.gguf"
        write_gguf(plan_conversion(source, load_profile("keep")), path)
        checks = run_checks(path, Reference(source, CHECKPOINTS / case))
        assert [check.name for check in checks if check.failed] == []
