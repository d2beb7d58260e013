"""The records of scripts/measure_vram, each made on a GPU, and the script itself where there is none."""

import importlib.util
import json
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest
from fake_nvml import FakeNvml

from toolkit.machine.gpus import GpuList
from toolkit.memory.probe import MemoryProbe
from toolkit.planning.margin import Overhead
from toolkit.units import GIB, MIB

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "measure_vram"
RECORDS = sorted((ROOT / "tests" / "data").glob("vram_*.json"))
CONTEXT = Overhead("RTX", "570.1", 300 * MIB, "NVML")


@pytest.fixture(scope="module")
def script():
    loader = SourceFileLoader("measure_vram", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.modules[loader.name] = module
    loader.exec_module(module)
    yield module
    del sys.modules[loader.name]


def test_every_record_has_enough_combinations_and_predicts_each_within_two_per_cent(script):
    for path in RECORDS:
        record = json.loads(path.read_text(encoding="utf-8"))
        measured = [script.Measured(**one) for one in record["combinations"]]
        assert len({(one.shape, one.n_ctx, one.kv_type, one.n_gpu_layers) for one in measured}) >= 12, path.name
        assert [one for one in measured if abs(one.error) > script.TOLERANCE] == [], path.name
        assert path.name == script.file_name(record["gpu"])


def test_there_are_enough_combinations_of_shape_context_kv_type_and_split(script):
    every = script.combinations()
    assert len(set(every)) == len(every) >= 2 * script.LEAST_COMBINATIONS
    assert {one.shape for one in every} == script.SHAPES.keys()


def test_a_combination_is_predicted_and_measured(script, monkeypatch, tmp_path):
    nvml = FakeNvml({"name": "RTX", "memory": (24 * GIB, 23 * GIB)})
    hold = MemoryProbe.hold

    def watching(self, path, settings):
        footprint = hold(self, path, settings)
        nvml.gpus[0]["processes"] = [(self.pid, footprint.gpu_bytes + 310 * MIB)]
        return footprint

    monkeypatch.setattr(MemoryProbe, "hold", watching)
    small = script.SHAPES["llama-1b"] | {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4}
    monkeypatch.setitem(script.SHAPES, "llama-1b", small | {"num_attention_heads": 4, "num_key_value_heads": 2})
    one = script.Combination("llama-1b", 4096, "q8_0", False)
    found = script.measure(one, tmp_path, CONTEXT, nvml, device="simulated")
    assert (found.n_gpu_layers, found.measured_bytes - found.predicted_bytes) == (2, 10 * MIB)
    nvml.gpus[0]["memory"] = (24 * GIB, 100 * MIB)
    assert script.measure(one, tmp_path, CONTEXT, nvml, device="simulated") is None


def test_without_a_gpu_the_script_says_so_and_writes_nothing(script, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(script, "list_gpus", lambda: GpuList(()))
    monkeypatch.setattr(sys, "argv", ["measure_vram", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        script.main()
    out, err = capsys.readouterr()
    assert (stopped.value.code, out, list(tmp_path.iterdir())) == (4, "", [])
    assert err.startswith("measure_vram: there is no NVIDIA GPU here to measure")
