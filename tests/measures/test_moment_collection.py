"""Second moments while a model reads a text: their diagonal is the importance matrix, and shared inputs are summed up once."""

from dataclasses import replace

import numpy
import pytest
from demo_model import FIXED_TEXT, convert_demo
from tiny_model import TinyShape, write_tiny_model
from tiny_moe import N_EXPERTS, write_tiny_moe

from toolkit.errors import InputError
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.measures.evaluation_text import read_text
from toolkit.measures.imatrix_collection import Calibration, collect_imatrix
from toolkit.measures.moment_collection import HELD_OUT_EVERY, MomentCollector, start_moments

CHUNK = 64
SETTINGS = RunSettings(n_ctx=CHUNK, n_batch=CHUNK, n_ubatch=CHUNK, n_threads=1)
CALIBRATION = Calibration(read_text(FIXED_TEXT), CHUNK)


def collect(path, memory_bytes=1 << 30, calibration=CALIBRATION):
    collector = MomentCollector()
    with LlamaRuntime(path, replace(SETTINGS, on_tensor=collector)) as runtime:
        run = start_moments(runtime, collector, calibration)
        return run, {found.shape.name: found for found in run.collect(memory_bytes)}


@pytest.mark.parametrize("model", ["demo", "moe"])
def test_the_diagonal_is_what_the_importance_matrix_has(model, tmp_path):
    path = convert_demo(tmp_path, "bf16") if model == "demo" else write_tiny_moe(tmp_path / "moe.gguf")
    run, found = collect(path)
    sums = collect_imatrix(path, CALIBRATION, SETTINGS)
    by_weight = {weight: found[shape.name] for shape in run.header.inputs for weight in shape.weights}
    assert set(sums.entries) <= set(by_weight)
    for name, entry in sums.entries.items():
        moments = by_weight[name]
        assert moments.tokens.sum(0).tolist() == entry.counts.tolist()
        assert numpy.allclose(numpy.einsum("mii->mi", moments.whole), entry.means, rtol=1e-4, atol=1e-9), name
        assert numpy.allclose(moments.whole, moments.whole.transpose(0, 2, 1))
        # Mean squares of sums of columns are never negative.
        assert numpy.linalg.eigvalsh(moments.whole).min() > -1e-6 * numpy.abs(moments.whole).max()


def test_weights_that_share_an_input_are_named_together(tmp_path):
    run, _ = collect(write_tiny_model(tmp_path / "m.gguf", TinyShape(n_layer=1, n_embd=64, n_ff=96)))
    shared = [set(shape.weights) for shape in run.header.inputs]
    for together in (("attn_q", "attn_k", "attn_v"), ("ffn_gate", "ffn_up"), ("attn_output",), ("ffn_down",)):
        assert {f"blk.0.{name}.weight" for name in together} in shared
    assert sum(map(len, shared)) == len(set().union(*shared))


def test_one_chunk_in_five_is_held_out(tmp_path):
    run, found = collect(write_tiny_model(tmp_path / "m.gguf", TinyShape(n_layer=1, n_embd=64, n_ff=96)))
    held = run.chunks.count // HELD_OUT_EVERY
    assert held >= 1
    for moments in found.values():
        assert moments.tokens[:, 0].tolist() == [(run.chunks.count - held) * CHUNK, held * CHUNK]


def test_little_memory_reads_the_text_several_times_to_the_same_end(tmp_path):
    path = write_tiny_moe(tmp_path / "moe.gguf")
    run, whole = collect(path)
    largest = max(shape.sum_bytes for shape in run.header.inputs)
    passes, parts = collect(path, largest)
    assert len(passes.passes(largest)) > 2
    assert whole.keys() == parts.keys()
    for name, moments in whole.items():
        assert numpy.array_equal(moments.tokens, parts[name].tokens)
        assert all(numpy.allclose(a, b, rtol=1e-6) for a, b in zip(moments.means, parts[name].means, strict=True))
    assert max(moments.shape.matrices for moments in whole.values()) == N_EXPERTS


def test_memory_for_less_than_one_input_is_refused(tmp_path):
    path = write_tiny_model(tmp_path / "m.gguf", TinyShape(n_layer=1, n_embd=64, n_ff=96))
    with pytest.raises(InputError, match="give --moments-memory more"):
        collect(path, 1000)


def test_a_text_with_nothing_to_hold_out_is_refused(tmp_path):
    path = write_tiny_model(tmp_path / "m.gguf", TinyShape(n_layer=1, n_embd=64, n_ff=96))
    with pytest.raises(InputError, match=r"4 chunks of 64 tokens are too few .* one in 5 is held out"):
        collect(path, calibration=replace(CALIBRATION, max_chunks=4))
