"""Calibration in sequence: blocks evaluated by themselves, moments of both models, and a run that was killed."""

from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest

from toolkit.calibration.block_model import Blocks, blocks_for, write_blocks
from toolkit.calibration.block_runtime import Activations, BlockRuntime
from toolkit.calibration.paired_moments import PairedSums
from toolkit.calibration.sequential import SequenceSettings, calibrate_in_sequence, cut_chunks
from toolkit.calibration.store import Store
from toolkit.conversion.convert import converted_rows
from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.demo import demo_checkpoint
from toolkit.errors import InputError
from toolkit.gguf.ggml_types import TYPES
from toolkit.llama import quantizer
from toolkit.quant_profile import load_profile
from toolkit.rounding.asymmetric import Inputs, choose_damping, round_matrix
from toolkit.sources.hf_source import source_from_checkpoint

CHUNK = 32


@pytest.fixture(scope="module")
def source():
    return source_from_checkpoint(demo_checkpoint())


@pytest.fixture(scope="module")
def chunks():
    return numpy.random.default_rng(0).integers(3, 2000, (5, CHUNK)).astype(numpy.int32)


@pytest.mark.parametrize("case", ["demo", "llama3", "mixtral", "qwen2", "qwen2_moe", "qwen3"])
def test_a_block_by_itself_gives_the_hidden_states_that_it_gives_in_the_whole_model(case, kit_checkpoint, tmp_path):
    source = source_from_checkpoint(demo_checkpoint() if case == "demo" else kit_checkpoint(case))
    chunks = numpy.random.default_rng(0).integers(3, 200, (1, CHUNK)).astype(numpy.int32)
    plan = plan_conversion(source, load_profile("f32"))
    states = chunks
    for block in range(2):
        alone, whole = blocks_for(plan.metadata, block), Blocks(0, block)
        given = []
        for blocks, inputs in ((alone, states), (whole, chunks)):
            write_blocks(plan, blocks, tmp_path / "b.gguf")
            with BlockRuntime(tmp_path / "b.gguf", blocks, (1, CHUNK)) as runtime:
                shapes = runtime.learn(inputs)
                given.append(runtime.output(inputs).reshape(1, CHUNK, -1))
        assert shapes[0].weights[0] == f"blk.{block}.attn_q.weight"
        assert numpy.array_equal(given[0], given[1])
        states = given[0]
    assert alone == Blocks(1, 1)


def test_tokens_that_went_to_other_experts_in_the_original_count_as_unchanged():
    draw = numpy.random.default_rng(1)
    x, z = (draw.standard_normal((4, 2, 8)).astype(numpy.float32) for _ in range(2))
    original = Activations(x, numpy.array([[0, 1], [0, 1], [1, 2], [2, 0]], numpy.int32))
    quantized = Activations(z, numpy.array([[0, 1], [1, 0], [0, 2], [2, 1]], numpy.int32))
    with ThreadPoolExecutor(1) as pool:
        sums = PairedSums(range(3), 8, pool)
        sums.add(range(1), original, quantized)
        _, _, whole = sums.moments(0)
    rows = numpy.stack([z[0, 0], z[1, 1], z[2, 0]])
    originals = numpy.stack([x[0, 0], x[1, 0], z[2, 0]])
    assert whole.tokens == 3
    assert numpy.allclose(whole.second, rows.T @ rows / 3, atol=1e-6)
    assert numpy.allclose(whole.shift, (originals - rows).T @ rows / 3, atol=1e-6)


def test_weights_make_up_for_what_earlier_layers_have_changed():
    draw = numpy.random.default_rng(2)
    weights = (draw.standard_normal((16, 256)) * 0.05).astype(numpy.float32)
    x = draw.standard_normal((2048, 256))
    z = x + 0.3 * draw.standard_normal((2048, 256)) @ (draw.standard_normal((256, 256)) / 16)
    inputs = Inputs(z.T @ z / len(z), (x - z).T @ z / len(z))
    choice = choose_damping(weights, TYPES["Q4_K"], inputs, inputs)
    assert choice.damping is not None
    assert choice.gain > 0
    with ThreadPoolExecutor(2) as pool:
        rounded = [
            quantizer.to_float32(round_matrix(weights, TYPES["Q4_K"], each, choice.damping, pool), TYPES["Q4_K"])
            for each in (inputs, Inputs(inputs.second, None))
        ]
    errors = [numpy.square(x @ weights.T - z @ rows.T).mean() for rows in rounded]
    assert errors[0] < 0.97 * errors[1]


def test_a_killed_run_goes_on_and_gives_the_same_bytes_with_any_number_of_threads(
    source, chunks, tmp_path, monkeypatch
):
    original = plan_conversion(source, load_profile("bf16"))
    quantized = plan_conversion(source, load_profile("q3_k_s"))

    def rounded(folder, threads):
        plan = calibrate_in_sequence(original, quantized, chunks, tmp_path / folder, SequenceSettings(threads=threads))
        return {tensor.name: converted_rows(tensor, 0, 4).tobytes() for tensor in plan.tensors if tensor.type.quantized}

    whole = rounded("whole", 1)
    stock = {
        tensor.name: converted_rows(tensor, 0, 4).tobytes() for tensor in quantized.tensors if tensor.name in whole
    }
    assert {name for name, rows in whole.items() if rows != stock[name]} == stock.keys()
    done = []
    advance = Store.advance

    def killed(store):
        advance(store)
        done.append(store.block)
        if len(done) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Store, "advance", killed)
    with pytest.raises(KeyboardInterrupt):
        rounded("parts", 2)
    assert rounded("parts", 2) == whole
    assert done == list(range(1, 9))


def test_too_little_text_is_refused():
    with pytest.raises(InputError, match="calibration needs 5 at least: give more text"):
        cut_chunks(range(100), 32, None)
