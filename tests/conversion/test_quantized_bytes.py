"""Our quantized files against those that llama.cpp makes of our unquantized file: names, shapes, types, bytes, metadata."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy
import pytest
from demo_model import FIXED_TEXT, GOLDEN
from llama_quantize import contents, llama_quantize, write_imatrix

from toolkit.conversion.convert import write_gguf
from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.demo import demo_checkpoint
from toolkit.gguf.ggml_types import TYPES
from toolkit.importance.matrix import Imatrix, read_imatrix, read_sums
from toolkit.importance.sums import write_imatrix as write_sums
from toolkit.llama.run_settings import RunSettings
from toolkit.measures.evaluation_text import read_text
from toolkit.measures.imatrix_collection import Calibration, collect_imatrix
from toolkit.model_source import ModelSource
from toolkit.quant_profile import TypeOverride, load_profile, parse_override
from toolkit.sources.gguf_source import source_from_gguf
from toolkit.sources.hf_source import source_from_checkpoint

DEMO = "demo"
K_QUANTS = ("q2_k", "q3_k_s", "q3_k_m", "q3_k_l", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m", "q6_k")
CONVERT_ONLY = ("iq4_nl", "iq4_xs", "iq3_s", "iq3_m", "iq1_s", "q4_1", "q5_0", "q5_1", "tq1_0", "tq2_0", "f16")
"""Slow, or with nothing of its own in reading GGUF; of the demo only `convert` is tried, of the kit's small cases both commands."""
WITHOUT_IMATRIX = [
    *((DEMO, profile) for profile in (*K_QUANTS, "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "tq1_0", "tq2_0", "f16")),
    *((DEMO, profile) for profile in ("iq4_nl", "iq4_xs", "iq3_s", "iq3_m")),
    *((case, profile) for case in ("smollm", "llama3", "qwen2") for profile in ("q2_k", "q3_k_m", "q4_k_m", "q5_k_m")),
    *((case, profile) for case in ("smollm", "llama3") for profile in ("iq4_xs", "iq3_s", "iq3_m", "tq2_0", "q8_0")),
    *(("llama3", profile) for profile in ("iq4_nl", "q4_1", "q5_0", "q5_1", "tq1_0", "f16")),
    *((case, "q4_k_m") for case in ("mixtral", "gemma2", "gpt2", "falcon_new", "phi3", "qwen3_moe")),
]
WITH_IMATRIX = [
    *((DEMO, profile) for profile in ("q4_k_m", "q4_0", "q2_k_s", "iq1_s")),
    *(("llama3", profile) for profile in ("iq2_xs", "iq3_xxs", "iq1_s", "iq4_xs")),
    *((case, "q4_k_m") for case in ("smollm", "mixtral", "qwen3_moe")),
]


@pytest.fixture(scope="module")
def unquantized(kit_checkpoint, converted, tmp_path_factory) -> Callable[[str], tuple[Path, Path]]:
    """Give a function: the checkpoint of a case, or of the demo, and our file of it in the type that it is stored in."""
    path = tmp_path_factory.mktemp("bf16") / "demo.bf16.gguf"

    @cache
    def make(case: str) -> tuple[Path, Path]:
        if case != DEMO:
            return kit_checkpoint(case), converted(case, "f32" if case == "gpt2" else "bf16")
        write_gguf(plan_conversion(source_from_checkpoint(demo_checkpoint()), load_profile("bf16")), path)
        return demo_checkpoint(), path

    return make


def sources(case: str, profile: str, checkpoint: Path, gguf_file: Path) -> dict[str, ModelSource]:
    """Return what `convert` and `quantize` begin with."""
    ways = {"convert": source_from_checkpoint(checkpoint)}
    return ways if case == DEMO and profile in CONVERT_ONLY else ways | {"quantize": source_from_gguf(gguf_file)}


def check_all(
    ways: dict[str, ModelSource],
    profile: str,
    expected: Path,
    imatrix: Imatrix | None = None,
    overrides: tuple[TypeOverride, ...] = (),
) -> None:
    wanted, ours = contents(expected), expected.with_name("ours.gguf")
    for way, source in ways.items():
        write_gguf(plan_conversion(source, load_profile(profile), imatrix, overrides), ours)
        assert contents(ours) == wanted, way
        ours.unlink()


@pytest.mark.parametrize(("case", "profile"), WITHOUT_IMATRIX)
def test_files_equal_those_of_llama_quantize(case, profile, unquantized, tmp_path):
    checkpoint, gguf_file = unquantized(case)
    llama_quantize(gguf_file, tmp_path / "expected.gguf", load_profile(profile).file_type)
    check_all(sources(case, profile, checkpoint, gguf_file), profile, tmp_path / "expected.gguf")


@pytest.mark.parametrize(("case", "profile"), WITH_IMATRIX)
def test_files_with_an_importance_matrix_equal_those_of_llama_quantize(case, profile, unquantized, tmp_path):
    checkpoint, gguf_file = unquantized(case)
    ways = sources(case, profile, checkpoint, gguf_file)
    shapes = {t.name: t.shape for t in ways["convert"].tensors if len(t.shape) > 1 and t.name.startswith("blk.")}
    meaning = write_imatrix(tmp_path / "imatrix.gguf", shapes)
    llama_quantize(gguf_file, tmp_path / "expected.gguf", load_profile(profile).file_type, meaning)
    check_all(ways, profile, tmp_path / "expected.gguf", read_imatrix(tmp_path / "imatrix.gguf"))


@pytest.mark.parametrize("profile", ["q4_k_m", "q2_k_s"])
def test_a_matrix_of_ours_quantizes_as_that_of_llama_imatrix_does(profile, unquantized, tmp_path):
    checkpoint, gguf_file = unquantized(DEMO)
    ours, theirs = tmp_path / "ours.imatrix", read_sums(GOLDEN / "demo.imatrix").entries
    collected = collect_imatrix(
        gguf_file, Calibration(read_text(FIXED_TEXT), 64), RunSettings(n_ctx=64, n_batch=64, n_ubatch=64)
    )
    write_sums(collected, ours)
    meaning = {name: numpy.ascontiguousarray(entry.means.reshape(-1)) for name, entry in theirs.items()}
    llama_quantize(gguf_file, tmp_path / "expected.gguf", load_profile(profile).file_type, meaning)
    source = source_from_checkpoint(checkpoint)
    write_gguf(plan_conversion(source, load_profile(profile), read_imatrix(ours)), tmp_path / "found.gguf")
    expected, found = (contents(tmp_path / f"{name}.gguf")["tensors"] for name in ("expected", "found"))
    assert {name: parts[:2] for name, parts in found.items()} == {name: parts[:2] for name, parts in expected.items()}
    # Another processor rounds activations elsewhere: there some sums differ in their last bits, and bytes may.
    differ = {name for name, entry in theirs.items() if (collected.entries[name].sums != entry.sums).any()}
    assert {name for name in found if found[name] != expected[name]} <= differ


def test_an_importance_matrix_changes_the_bytes_of_the_weights_that_it_names_alone(unquantized, tmp_path):
    checkpoint, _ = unquantized(DEMO)
    source, named, profile = source_from_checkpoint(checkpoint), "blk.3.ffn_up.weight", load_profile("q4_k_s")
    write_imatrix(tmp_path / "imatrix.gguf", {named: (512, 256)})
    matrix = read_imatrix(tmp_path / "imatrix.gguf")
    write_gguf(plan_conversion(source, profile), tmp_path / "without.gguf")
    write_gguf(plan_conversion(source, profile, matrix), tmp_path / "with.gguf")
    without, with_ = (contents(tmp_path / name)["tensors"] for name in ("without.gguf", "with.gguf"))
    assert [name for name in without if without[name] != with_[name]] == [named]


def test_types_given_by_pattern_equal_those_of_llama_quantize(unquantized, tmp_path):
    checkpoint, gguf_file = unquantized(DEMO)
    given = {"blk.[0-3].ffn_down": "q6_k", "attn_v": "q8_0"}
    forced = {pattern: TYPES[type_.upper()].ggml_id for pattern, type_ in given.items()}
    llama_quantize(gguf_file, tmp_path / "expected.gguf", load_profile("q4_k_m").file_type, types=forced)
    overrides = tuple(parse_override(f"{pattern}={type_}") for pattern, type_ in given.items())
    ways = sources(DEMO, "q4_k_m", checkpoint, gguf_file)
    check_all(ways, "q4_k_m", tmp_path / "expected.gguf", overrides=overrides)


@pytest.mark.parametrize("first", ["q8_0", "q6_k", "q4_0"])
def test_a_second_quantization_equals_that_of_llama_quantize(first, unquantized, tmp_path):
    """The rows must be read back into floats exactly as llama.cpp reads them."""
    _, gguf_file = unquantized("llama3")
    middle, expected = tmp_path / "middle.gguf", tmp_path / "expected.gguf"
    write_gguf(plan_conversion(source_from_gguf(gguf_file), load_profile(first)), middle)
    llama_quantize(middle, expected, load_profile("q4_k_m").file_type, requantize=True)
    check_all({"quantize": source_from_gguf(middle, allow_requantize=True)}, "q4_k_m", expected)
