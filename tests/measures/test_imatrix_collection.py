import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from demo_model import FIXED_TEXT, convert_demo
from llama_tools import llama_tool
from loopback_device import loopback_device
from recorded_task import RecordedTask
from tiny_model import TinyShape, write_tiny_model
from tiny_moe import N_EXPERTS, write_tiny_moe

from toolkit.errors import EnvironmentFaultError, QualityError, TextError
from toolkit.importance.matrix import read_sums
from toolkit.importance.sums import TensorSums
from toolkit.llama.ggml_tensor import tensor_at
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.measures.evaluation_text import EvaluationText, read_text
from toolkit.measures.imatrix_collection import (
    Calibration,
    ImatrixCollector,
    add_expert_rows,
    add_squares,
    collect_imatrix,
    collect_with,
    weight_name,
)

CHUNK = 64
SETTINGS = RunSettings(n_ctx=CHUNK, n_batch=CHUNK, n_ubatch=CHUNK, n_threads=1)
CALIBRATION = Calibration(read_text(FIXED_TEXT), CHUNK)
# In a process of its own, because a device that was added stays.
COLLECT_ON = """
import sys
from pathlib import Path
from toolkit.measures.evaluation_text import read_text
from toolkit.measures.imatrix_collection import Calibration, collect_imatrix
from toolkit.importance.sums import write_imatrix
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.devices import add_rpc_devices
endpoint, model, text, output = sys.argv[1:]
device = add_rpc_devices(endpoint)[0]
settings = RunSettings(n_ctx=64, n_batch=64, n_ubatch=64, n_gpu_layers=2, n_threads=1, device_pointers=(device.pointer,))
write_imatrix(collect_imatrix(Path(model), Calibration(read_text(Path(text)), 64), settings), Path(output))
"""


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("demo_imatrix", lambda folder: convert_demo(folder, "bf16")),
        ("tiny_moe_imatrix", lambda folder: write_tiny_moe(folder / "moe.gguf")),
    ],
)
def test_sums_and_counts_are_llama_imatrixs(
    name: str, write: Callable[[Path], Path], tool_print: Callable[[str, str], bool], tmp_path: Path
) -> None:
    model = write(tmp_path)
    made_here = llama_tool("imatrix", model, FIXED_TEXT, "-c", CHUNK, "-b", CHUNK, "-o", tmp_path / "made.npz")
    expected, found = numpy.load(tmp_path / "made.npz"), collect_imatrix(model, CALIBRATION, SETTINGS)
    assert {f"{name}.{part}" for name in found.entries for part in ("in_sum2", "counts")} == set(expected.files)
    assert (found.chunk_size, found.datasets) == (CHUNK, ("LICENSE",))
    for weight, entry in found.entries.items():
        numpy.testing.assert_array_equal(entry.counts, expected[f"{weight}.counts"])
        numpy.testing.assert_array_equal(entry.sums, expected[f"{weight}.in_sum2"], err_msg=weight)
    tool_print(name, made_here)


def test_experts_are_counted_one_by_one(tmp_path: Path) -> None:
    found = collect_imatrix(write_tiny_moe(tmp_path / "m.gguf"), CALIBRATION, SETTINGS)
    up = found.entries["blk.0.ffn_up_exps.weight"]
    assert up.sums.shape == (N_EXPERTS, 64)
    assert up.counts.sum() == 2 * found.entries["blk.0.attn_q.weight"].counts[0]
    assert len(set(up.counts.tolist())) > 1


def test_half_the_layers_on_a_device_give_the_same_sums(tmp_path: Path) -> None:
    path, output = write_tiny_model(tmp_path / "m.gguf", TinyShape(n_embd=64, n_ff=96)), tmp_path / "there"
    here = collect_imatrix(path, CALIBRATION, SETTINGS)
    with loopback_device() as endpoint:
        command = [sys.executable, "-c", COLLECT_ON, endpoint, str(path), str(FIXED_TEXT), str(output)]
        done = subprocess.run(command, capture_output=True, check=False, timeout=120, cwd=FIXED_TEXT.parent)
    assert done.returncode == 0, done.stderr.decode()
    there = read_sums(output)
    assert there.entries.keys() == here.entries.keys()
    for name, entry in here.entries.items():
        numpy.testing.assert_allclose(there.entries[name].sums, entry.sums, rtol=1e-3)


def test_the_output_is_collected_only_when_asked_for(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf")
    assert "output.weight" not in collect_imatrix(path, CALIBRATION, SETTINGS).entries
    asked = dataclasses.replace(CALIBRATION, process_output=True, max_chunks=2)
    assert collect_imatrix(path, asked, SETTINGS).entries["output.weight"].counts.tolist() == [2 * CHUNK]


def test_every_token_of_every_chunk_counts_in_the_last_layer_too(tmp_path: Path) -> None:
    task = RecordedTask()
    path, three = write_tiny_model(tmp_path / "m.gguf"), dataclasses.replace(CALIBRATION, max_chunks=3)
    found = collect_imatrix(path, three, SETTINGS, task)
    assert {int(entry.counts[0]) for entry in found.entries.values()} == {3 * CHUNK}
    assert [step[:2] for step in task.steps] == [(1, 3), (2, 3), (3, 3)]


def test_nan_is_found_and_named(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", bad_tensor="blk.0.attn_norm.weight")
    with pytest.raises(QualityError, match=r"blk\.0\.attn_[qkv]\.weight was multiplied with NaN"):
        collect_imatrix(path, CALIBRATION, SETTINGS)


def test_a_short_text_is_refused(tmp_path: Path) -> None:
    short = dataclasses.replace(CALIBRATION, text=EvaluationText("short", "a b c", ""))
    with pytest.raises(TextError, match=r"need 128 \(two chunks\)"):
        collect_imatrix(write_tiny_model(tmp_path / "m.gguf"), short, SETTINGS)


def test_a_failing_watcher_does_not_bring_down_native_code(tmp_path: Path) -> None:
    seen: list[bool] = []

    def watch(_pointer: int, ask: bool, _user: object) -> bool:
        seen.append(ask)
        return False

    settings = dataclasses.replace(SETTINGS, on_tensor=watch)
    with LlamaRuntime(write_tiny_model(tmp_path / "m.gguf"), settings) as runtime:
        runtime.feed([1, 2, 3])
    assert seen
    assert all(seen)


class FailsAtNode(ImatrixCollector):
    """A collector in which something is raised when it is called for the nth time."""

    def __init__(self, calls: int, fault: BaseException) -> None:
        super().__init__()
        self.calls, self._fault = calls, fault

    def __call__(self, pointer: int, ask: bool, user_data: object) -> bool:
        self.calls -= 1
        if self.calls == 0:
            raise self._fault
        return super().__call__(pointer, ask, user_data)


@pytest.mark.parametrize("calls", [1, 2, 40, 300])
@pytest.mark.parametrize("fault", [KeyboardInterrupt, SystemExit, MemoryError])
def test_whatever_is_raised_within_a_graph_ends_the_collection(
    tmp_path: Path, calls: int, fault: type[BaseException]
) -> None:
    collector = FailsAtNode(calls, fault("here"))
    settings = dataclasses.replace(SETTINGS, on_tensor=collector)
    with LlamaRuntime(write_tiny_model(tmp_path / "m.gguf"), settings) as runtime:
        with pytest.raises(fault, match="here"):
            collect_with(runtime, collector, CALIBRATION)
        assert collector.calls == 0, "ggml went on after it"
        collector.calls = -1
        runtime.clear()
        runtime.feed([1, 2, 3])


class StopsOnce(ImatrixCollector):
    """A collector that ends one batch early, as a graph does that is computed in part."""

    batches = 0

    def __call__(self, pointer: int, ask: bool, user_data: object) -> bool:
        goes_on = super().__call__(pointer, ask, user_data)
        return goes_on if ask or self.batches != 1 else False

    def end_batch(self, start: int, n_tokens: int) -> None:
        super().end_batch(start, n_tokens)
        self.batches += 1


def test_a_batch_that_reached_fewer_weights_than_the_others_makes_no_matrix(tmp_path: Path) -> None:
    collector = StopsOnce()
    settings = dataclasses.replace(SETTINGS, on_tensor=collector)
    with (
        LlamaRuntime(write_tiny_model(tmp_path / "m.gguf"), settings) as runtime,
        pytest.raises(EnvironmentFaultError, match="multiplied with 1 weights in one batch and with"),
    ):
        collect_with(runtime, collector, CALIBRATION)


def test_squares_are_added_row_after_row_in_32_bits() -> None:
    rows = numpy.random.default_rng(0).normal(0, 1, (500, 7)).astype(numpy.float32)
    total = numpy.full(7, 0.1, numpy.float32)
    expected = total.copy()
    for row in rows:
        expected += row * row
    add_squares(total, rows)
    numpy.testing.assert_array_equal(total, expected)


@pytest.mark.parametrize("slots", [1, 3])
def test_tokens_are_added_to_the_experts_that_they_went_to(slots: int) -> None:
    random = numpy.random.default_rng(4)
    values = random.normal(0, 1, (40, slots, 5)).astype(numpy.float32)
    experts = numpy.stack([random.permutation(6)[:3] for _ in range(40)]).astype(numpy.int32)
    entry = TensorSums(numpy.zeros((7, 5), numpy.float32), numpy.zeros(7, numpy.int64))
    add_expert_rows(entry, values, experts)
    expected = numpy.zeros((7, 5), numpy.float32)
    for slot in range(3):
        for token in range(40):
            row = values[token, slot % slots]
            expected[experts[token, slot]] += row * row
    numpy.testing.assert_array_equal(entry.sums, expected)
    numpy.testing.assert_array_equal(entry.counts, numpy.bincount(experts.reshape(-1), minlength=7))
    assert entry.unseen == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"blk.0.attn_k.weight", "blk.0.attn_k.weight"),
        (b"CUDA0#blk.0.attn_k.weight#0", "blk.0.attn_k.weight"),
        (b"RPC0#output.weight", "output.weight"),
    ],
)
def test_what_a_device_adds_to_a_name_is_dropped(name: bytes, expected: str) -> None:
    assert weight_name(name) == expected


class WatchedCollector(ImatrixCollector):
    """A collector that remembers what it was asked about, batch by batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[str]] = [[]]

    def __call__(self, pointer: int, ask: bool, user_data: object) -> bool:
        if ask:
            self.batches[-1].append(tensor_at(pointer).name.decode())
        return super().__call__(pointer, ask, user_data)

    def end_batch(self, start: int, n_tokens: int) -> None:
        super().end_batch(start, n_tokens)
        self.batches.append([])


def test_the_product_with_the_vocabulary_is_left_out_from_the_second_batch_on(tmp_path: Path) -> None:
    collector = WatchedCollector()
    settings = dataclasses.replace(SETTINGS, on_tensor=collector)
    with LlamaRuntime(write_tiny_model(tmp_path / "m.gguf"), settings) as runtime:
        collect_with(runtime, collector, dataclasses.replace(CALIBRATION, max_chunks=3))
    first, *others = collector.batches[:3]
    assert "result_output" in first
    assert all("result_output" not in batch and batch == first[: len(batch)] for batch in others)


def test_batches_of_fewer_than_16_tokens_are_left_out_as_llama_imatrix_leaves_them(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf")
    for chunk, seen in ((15, False), (16, True)):
        settings = RunSettings(n_ctx=chunk, n_batch=chunk, n_ubatch=chunk, n_threads=1)
        short = dataclasses.replace(CALIBRATION, n_ctx_seq=chunk, max_chunks=1)
        assert bool(collect_imatrix(path, short, settings).entries) is seen
