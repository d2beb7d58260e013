"""The bench command as a user runs it."""

import json
import os
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from tiny_model import write_tiny_model

from toolkit.cli import cli
from toolkit.llama.offload_build import OffloadBuild
from toolkit.machine.gpus import Gpu, GpuList
from toolkit.verbs.bench import spill_warnings


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf")


QUICK = ("-p", "32", "-n", "4", "-r", "2", "-t", "1")


def test_rates_have_the_names_that_scripts_rely_on(run_command, model):
    done = run_command("bench", model, *QUICK, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for key in ("prompt_tokens_per_second", "generation_tokens_per_second"):
        assert found[key] > 0
        assert found[f"{key}_stddev"] >= 0
    [result] = found["results"]
    assert (result["n_prompt"], result["n_generate"], result["n_depth"], result["repetitions"]) == (32, 4, 0, 2)
    assert sum(device["kv_cache_bytes"] for device in result["devices"]) > 0
    assert result["load_seconds"] > 0


@pytest.mark.parametrize(("policy", "waiting"), [("passive", "passive"), ("active", "active")])
def test_how_threads_wait_for_each_other_is_told(run_command, model, policy, waiting):
    environment = os.environ | {"OMP_WAIT_POLICY": policy}
    document = json.loads(run_command("bench", model, *QUICK, "--json", env=environment).stdout)
    assert document["thread_waiting"] == waiting
    text = run_command("bench", model, *QUICK, env=environment).stdout
    assert f"threads wait for each other {waiting}ly" in text


def test_several_values_give_a_row_each(run_command, model):
    done = run_command("bench", model, "-p", "16,32", "-n", "4", "-d", "0,64", "--kv", "f16,q8_0", "-r", "1", "--json")
    rows = json.loads(done.stdout)["results"]
    tests = [(row["kv_type_k"], row["n_depth"], row["n_prompt"], row["n_generate"]) for row in rows]
    assert tests == [
        (kv, depth, *counts) for kv in ("f16", "q8_0") for depth in (0, 64) for counts in ((16, 4), (32, 0))
    ]
    assert rows[1]["generation_tokens_per_second"] is None
    cache = {row["kv_type_k"]: sum(device["kv_cache_bytes"] for device in row["devices"]) for row in rows}
    assert cache["q8_0"] < 0.6 * cache["f16"]


def test_people_read_a_table_and_what_is_allocated(run_command, model):
    done = run_command("bench", model, *QUICK)
    assert done.stdout.splitlines()[0].split() == [
        "layers", "KV", "threads", "depth", "prompt", "tokens/s", "generated", "tokens/s",
    ]  # fmt: skip
    assert "32: " in done.stdout
    assert "KV cache" in done.stdout
    assert "loaded in" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-p", "many"), "'many': write numbers of at least 0, separated by commas"),
        (("-t", "0"), "'0': write numbers of at least 1"),
        (("-p", "0", "-n", "0"), "there is nothing to measure"),
        (("--kv", "f16,f17"), "KV type 'f17' is not one of"),
    ],
)
def test_impossible_requests_are_refused(run_command, model, options, message):
    done = run_command("bench", model, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def load(predicted, **settings):
    placed = SimpleNamespace(n_gpu_layers=settings.get("layers", 33), rpc=settings.get("rpc", ()))
    return SimpleNamespace(plan=SimpleNamespace(settings=placed, choice=SimpleNamespace(tokens_per_second=predicted)))


def row(measured, one_load):
    return SimpleNamespace(load=one_load, rate=SimpleNamespace(generation_tokens_per_second=measured))


def test_a_gpu_far_below_its_bandwidth_has_likely_spilled(monkeypatch):
    monkeypatch.setattr("toolkit.verbs.bench.gpu_bandwidths", lambda: (900e9,))
    [message] = spill_warnings([row(8.0, load(60.0))])
    assert message.startswith("8.0 tokens/s where the GPU's bandwidth allows 60.0: the driver has likely spilled")
    quiet = [row(40.0, load(60.0)), row(8.0, load(60.0, layers=0)), row(8.0, load(60.0, rpc=("a:1",)))]
    small, prompt_only = row(100.0, load(900.0)), row(None, load(60.0))
    assert spill_warnings([*quiet, small, prompt_only]) == []
    monkeypatch.setattr("toolkit.verbs.bench.gpu_bandwidths", lambda: ())
    assert spill_warnings([row(8.0, load(60.0))]) == []


def test_a_gpu_that_the_build_cannot_use_is_told_and_rates_are_called_the_cpus(model, monkeypatch):
    card = Gpu("NVIDIA RTX 3060", "GPU-1", 12 << 30, 11 << 30)
    monkeypatch.setattr("toolkit.verbs.devices.list_gpus", lambda: GpuList((card,)))
    monkeypatch.setattr("toolkit.verbs.devices.offload_build", lambda: OffloadBuild(True, ("RPC",)))
    result = CliRunner(catch_exceptions=False).invoke(cli, ["bench", str(model), *QUICK])
    assert result.exit_code == 0
    assert "built without offload, so NVIDIA RTX 3060 stays idle and rates are the CPU's" in result.stderr
    assert "-DGGML_CUDA=on" in result.stderr
