"""`--profile keep`: a file that holds the very codes of its quantized source."""

import hashlib
import json

import numpy
import pytest
from compare import KIT
from logits import llama_logits, token_ids

from toolkit.architectures.parts.row_sources import (
    Computed,
    Joined,
    Padded,
    Reshaped,
    SelectedColumns,
    SelectedRows,
    Transposed,
    moves_whole_rows,
)
from toolkit.conversion.convert import write_gguf
from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.gguf.ggml_types import F16, F32
from toolkit.gguf.reader import read_gguf
from toolkit.gguf.rows import generated, row_count
from toolkit.llama.quantizer import to_float32
from toolkit.quant_profile import FILE_TYPES, load_profile, parse_override
from toolkit.sources.gguf_source import source_from_gguf
from toolkit.sources.hf_source import source_from_checkpoint

QUANTIZED = KIT / "quantized"
TYPES = {
    "gptq_4bit": "Q4_0",
    "gptq_8bit": "Q8_0",
    "awq_4bit": "Q4_1",
    "compressed_int4": "Q4_0",
    "compressed_int4_asym": "Q4_1",
}
NAMES = {
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""the matrices whose rows stay in the order of the checkpoint"""


def plan_of(case, profile="keep", overrides=()):
    return plan_conversion(
        source_from_checkpoint(QUANTIZED / "checkpoints" / case),
        load_profile(profile),
        overrides=[parse_override(text) for text in overrides],
    )


def weights_of(rows):
    return to_float32(rows.read_rows(0, row_count(rows.shape)), rows.type)


@pytest.fixture(scope="module")
def kept_file(tmp_path_factory):
    """Give a function that writes a case with the profile."""
    folder = tmp_path_factory.mktemp("keep")

    def write(case, profile="keep"):
        path = folder / f"{case}.{profile}.gguf"
        if not path.exists():
            plan = plan_of(case, profile)
            write_gguf(plan, path)
            assert path.stat().st_size == plan.file_bytes
        return path

    return write


@pytest.mark.parametrize(("case", "type_"), TYPES.items())
def test_every_packed_matrix_becomes_blocks_and_the_rest_stays_as_it_is(case, type_):
    plan = plan_of(case)
    types = {tensor.name: tensor.type.name for tensor in plan.tensors}
    assert [name for name, found in types.items() if found == type_] == [
        f"blk.0.{name}.weight"
        for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    ]
    assert {found for name, found in types.items() if "norm" in name} == {"F32"}
    assert types["token_embd.weight"] == "F16"
    assert plan.metadata["general.file_type"].value == FILE_TYPES[f"MOSTLY_{type_}"]
    kept = [tensor for tensor in plan.tensors if tensor.type.name == type_]
    assert ({tensor.worst_difference for tensor in kept} == {0}) is (type_ != "Q4_1")
    assert all(tensor.kept for tensor in kept)


@pytest.mark.parametrize("case", [case for case, type_ in TYPES.items() if type_ != "Q4_1"])
def test_the_weights_in_the_file_are_those_that_an_independent_reference_gives(case, kept_file):
    expected = json.loads((QUANTIZED / "expected" / f"{case}.json").read_text(encoding="utf-8"))
    file = read_gguf(kept_file(case))
    for source, target in NAMES.items():
        found = weights_of(file.tensors[f"blk.0.{target}.weight"]).astype("<f4")
        digest = hashlib.sha256(found.tobytes()).hexdigest()
        assert digest == expected[f"model.layers.0.{source}.weight"]["sha256"]


@pytest.mark.parametrize(("case", "noise"), [(case, 1e-2 if type_ == "Q4_1" else 0) for case, type_ in TYPES.items()])
def test_what_the_kept_weights_compute_is_what_those_of_the_dequantized_model_do(case, noise, kept_file, tmp_path):
    """In F32 on both sides, since llama.cpp multiplies blocks by activations that it rounds to 8 bits.

    The noise is that of minimums rounded to float16: each weight may move by 2 ** -11 of its group's minimum.
    """
    widened = tmp_path / "widened.gguf"
    source = source_from_gguf(kept_file(case), allow_requantize=True)
    write_gguf(plan_conversion(source, load_profile("f32")), widened)
    reference = llama_logits(kept_file(case, "f32"), False, token_ids())
    difference = numpy.abs(llama_logits(widened, False, token_ids()) - reference).max()
    assert difference <= noise * numpy.abs(reference).max()


@pytest.mark.parametrize("case", [case for case in TYPES if case != "gptq_8bit"])
def test_llama_cpp_runs_the_kept_blocks(case, kept_file):
    """Its 8-bit activations move the logits by a few per cent; the weights of gptq_8bit are so large that attention flips."""
    reference, kept = (llama_logits(kept_file(case, name), False, token_ids()) for name in ("f32", "keep"))
    assert numpy.abs(kept - reference).max() <= 0.06 * numpy.abs(reference).max()


def test_permuted_rows_are_permuted_blocks(kept_file):
    kept, plain = (read_gguf(kept_file("gptq_4bit", profile)) for profile in ("keep", "f32"))
    for name in ("blk.0.attn_q.weight", "blk.0.attn_k.weight"):
        assert kept.tensors[name].type.name == "Q4_0"
        assert numpy.array_equal(weights_of(kept.tensors[name]), weights_of(plain.tensors[name]))


@pytest.mark.parametrize("case", ["gptq_4bit_desc_act", "bnb_nf4", "fp8_tensor"])
def test_what_gguf_has_no_grid_for_is_dequantized_to_f16(case):
    plan = plan_of(case)
    assert {tensor.type.name for tensor in plan.tensors} == {"F16", "F32"}
    assert not any(tensor.kept for tensor in plan.tensors)


def test_an_override_is_stronger_than_keeping():
    types = {tensor.name: tensor.type.name for tensor in plan_of("gptq_4bit", overrides=["ffn_down=q5_0"]).tensors}
    assert (types["blk.0.ffn_down.weight"], types["blk.0.ffn_up.weight"]) == ("Q5_0", "Q4_0")


@pytest.mark.parametrize(("case", "type_"), [("llama3", "BF16"), ("bloom", "F16"), ("llama_f32", "F32")])
def test_a_plain_checkpoint_keeps_its_floats(case, type_, kit_checkpoint):
    plan = plan_conversion(source_from_checkpoint(kit_checkpoint(case)), load_profile("keep"))
    assert {tensor.type.name for tensor in plan.tensors} == {type_, "F32"}
    assert plan.metadata["general.file_type"].value == FILE_TYPES["ALL_F32" if type_ == "F32" else f"MOSTLY_{type_}"]


def test_experts_of_gpt_oss_stay_mxfp4_and_count_as_kept(kit_checkpoint):
    plan = plan_conversion(source_from_checkpoint(kit_checkpoint("gpt_oss")), load_profile("keep"))
    experts = [tensor for tensor in plan.tensors if tensor.name.endswith("_exps.weight")]
    assert {(tensor.type.name, tensor.kept, tensor.worst_difference) for tensor in experts} == {("MXFP4", True, 0.0)}


def test_a_gguf_file_keeps_every_type_it_has(converted):
    source = source_from_gguf(converted("llama3", "q4_k_m"), allow_requantize=True)
    plan = plan_conversion(source, load_profile("keep"))
    assert [tensor.type for tensor in plan.tensors] == [tensor.source.type for tensor in source.tensors]


def test_blocks_may_move_with_their_rows_and_nothing_else():
    rows = generated(numpy.zeros((4, 64), numpy.float32))
    order = SelectedRows(rows, (4, 64), lambda indices: indices[::-1])
    assert moves_whole_rows(rows)
    assert moves_whole_rows(Joined((order, Padded(rows, (8, 64))), (12, 64)))
    assert moves_whole_rows(Reshaped(order, (2, 2, 64)))
    assert not moves_whole_rows(Reshaped(rows, (8, 32)))
    assert not moves_whole_rows(Transposed(rows))
    assert not moves_whole_rows(Joined((rows, Computed(rows, lambda values: values + 1)), (8, 64)))
    assert not moves_whole_rows(SelectedColumns(rows, numpy.arange(0, 64, 2)))
    vector = generated(numpy.zeros(64, numpy.float32))
    assert not moves_whole_rows(SelectedRows(vector, (64,), lambda indices: indices[::-1]))
    assert (F16.quantized, F32.quantized) == (False, False)
