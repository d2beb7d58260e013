"""The buffer of logits, which llama.cpp's account leaves out: against its log, and against what the allocator gave."""

import ctypes
import re
from pathlib import Path

import numpy
import pytest
from tiny_model import TinyShape, write_tiny_model

from toolkit.llama.batch import most_outputs
from toolkit.llama.load_settings import LoadSettings
from toolkit.llama.log import llama_log
from toolkit.llama.native import llama_cpp
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.measures.chunks import cut_chunks
from toolkit.memory.estimate import estimate
from toolkit.memory.loaded_model import LoadedModel
from toolkit.memory.plannable import model_from_source
from toolkit.memory.skeleton import write_skeleton
from toolkit.sources.hf_source import source_from_checkpoint
from toolkit.units import MIB

N_PARALLEL = 200


@pytest.mark.parametrize("case", ["llama3", "t5", "gemma3", "mamba"])
def test_the_buffer_of_logits_begins_as_llama_cpp_says(case, kit_checkpoint, tmp_path):
    planned = model_from_source(source_from_checkpoint(kit_checkpoint(case)), ("f16",)).make("f16")
    path = write_skeleton(planned.metadata, planned.tensors, tmp_path / "skeleton.gguf").path
    settings = LoadSettings(n_ctx=256 * N_PARALLEL, n_parallel=N_PARALLEL, kv_unified=True, device="cpu")
    with LoadedModel(path, settings) as model:
        [host] = model.footprint(settings).devices
        lines = llama_log().lines()
    [told] = [match[1] for line in lines if (match := re.search(r"output buffer size =\s*([\d.]+) MiB", line))]
    assert host.outputs_bytes / MIB == pytest.approx(float(told), abs=0.005)
    assert host.outputs_bytes > MIB / 10
    assert host.compute_bytes > host.outputs_bytes


def allocated_for_logits(runtime: LlamaRuntime) -> int:
    """Return what the C library gave for the buffer that logits are read from."""
    pointer = llama_cpp().llama_get_logits(runtime._context)
    usable = ctypes.CDLL(None).malloc_usable_size
    usable.restype, usable.argtypes = ctypes.c_size_t, [ctypes.c_void_p]
    return int(usable(ctypes.cast(pointer, ctypes.c_void_p)))


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "wide.gguf", TinyShape(n_layer=1))


@pytest.mark.parametrize(
    ("n_ctx", "n_parallel", "batch", "outputs"),
    [(64, 1, 64, 31), (256, 1, 64, 64), (64, 4, 64, 64), (24, 5, 64, 55), (16, 3, 48, 21), (100, 2, 64, 64)],
)
def test_chunks_take_the_logits_that_were_counted_before(wide_model, n_ctx, n_parallel, batch, outputs):
    settings = RunSettings(n_ctx=n_ctx * n_parallel, n_batch=batch, n_ubatch=batch, n_threads=1, n_parallel=n_parallel)
    scored = range(n_ctx // 2, n_ctx - 1)
    counted = most_outputs(scored, n_parallel, batch, batch)
    with LlamaRuntime(wide_model, settings) as runtime:
        chunks = cut_chunks([5] * 2 * n_ctx * n_parallel, n_ctx)
        before = runtime.footprint().host_bytes
        group = [chunks.input_tokens(index, None) for index in range(n_parallel)]
        for _ in runtime.evaluate_chunks(group, chunks.scored):
            pass
        after, given, n_vocab = runtime.footprint(), allocated_for_logits(runtime), runtime.n_vocab
    [host] = after.devices
    assert counted == outputs
    assert host.outputs_bytes == outputs * n_vocab * 4
    # Aligned to 64 bytes and rounded up to a page at most.
    assert host.outputs_bytes <= given <= host.outputs_bytes + 2 * 4096
    assert after.host_bytes - before == (outputs - n_parallel) * n_vocab * 4


def test_two_chunks_at_the_end_may_fill_a_batch_better_than_three_before() -> None:
    assert most_outputs(range(512, 1023), 3, 512, 512) == 512
    assert most_outputs(range(-1, 0), 7, 512, 512) == 7
    assert most_outputs((), 7, 512, 512) == 0


def test_a_prompt_and_its_answer_take_the_logits_of_one_token(wide_model):
    with LlamaRuntime(wide_model, RunSettings(n_ctx=64, n_batch=64, n_ubatch=64, n_threads=1)) as runtime:
        runtime.evaluate([5] * 30)
        runtime.feed([5] * 5)
        runtime.feed([5])
        [host] = runtime.footprint().devices
        assert host.outputs_bytes == runtime.n_vocab * 4
        runtime.clear()
        runtime.evaluate([5] * 30, slice(None))
        [host] = runtime.footprint().devices
        assert host.outputs_bytes == 30 * runtime.n_vocab * 4
        assert numpy.isfinite(runtime.evaluate([5])).all()


def test_what_is_announced_counts_from_the_beginning_and_in_estimates_too(wide_model):
    settings = RunSettings(n_ctx=64, n_batch=64, n_ubatch=64, n_threads=1, n_outputs=50)
    with LlamaRuntime(wide_model, settings) as runtime:
        n_vocab = runtime.n_vocab
        assert [device.outputs_bytes for device in runtime.footprint().devices] == [50 * n_vocab * 4]
    found = estimate(wide_model, LoadSettings(n_ctx=64, n_outputs=50, n_parallel=2))
    assert sum(device.outputs_bytes for device in found.devices) == 50 * n_vocab * 4
    found = estimate(wide_model, LoadSettings(n_ctx=64, n_parallel=2))
    assert sum(device.outputs_bytes for device in found.devices) == 2 * n_vocab * 4
