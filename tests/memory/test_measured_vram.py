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


def faults(script, name, record):
    """Return what is wrong with a record under a name: too few combinations, one that is off, another GPU's name."""
    measured = [script.Measured(**one) for one in record["combinations"]]
    distinct = {(each.shape, each.n_ctx, each.kv_type, each.n_gpu_layers) for each in measured}
    few = [] if len(distinct) >= script.LEAST_COMBINATIONS else [f"{len(distinct)} combinations"]
    off = [f"{each.shape}: {each.error:+.1%}" for each in measured if abs(each.error) > script.TOLERANCE]
    return few + off + ([] if name == script.file_name(record["gpu"]) else [f"named {name}"])


def made_up(script, error):
    """Return a record of as many combinations as are asked for, the first of which is predicted with an error."""
    predicted = [round(1000 * MIB * (1 + error)), *[1000 * MIB] * (script.LEAST_COMBINATIONS - 1)]
    measured = [script.Measured("s", 512, "f16", layers, each, 1000 * MIB) for layers, each in enumerate(predicted)]
    return {"gpu": "RTX 4060", "combinations": [vars(each) for each in measured]}


def test_every_record_has_enough_combinations_and_predicts_each_within_two_per_cent(script):
    found = {path.name: faults(script, path.name, json.loads(path.read_text(encoding="utf-8"))) for path in RECORDS}
    assert {name: each for name, each in found.items() if each} == {}


def test_a_record_that_is_off_too_small_or_of_another_gpu_is_noticed(script):
    assert faults(script, "vram_rtx_4060.json", made_up(script, 0.01)) == []
    assert faults(script, "vram_rtx_4060.json", made_up(script, 0.03)) == ["s: +3.0%"]
    assert faults(script, "vram_rtx_4060.json", made_up(script, -0.03)) == ["s: -3.0%"]
    assert faults(script, "vram_rtx_3060.json", made_up(script, 0.0)) == ["named vram_rtx_3060.json"]
    small = made_up(script, 0.0)
    small["combinations"].pop()
    assert faults(script, "vram_rtx_4060.json", small) == [f"{script.LEAST_COMBINATIONS - 1} combinations"]


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
