"""The formula against llama.cpp, whose largest error is printed at the end of a run, and when it stands in for it."""

import pytest
from kit_cases import CASES, UNLOADABLE

from toolkit.errors import EnvironmentFaultError, GgufError
from toolkit.llama.load_settings import KvTypes, LoadSettings, TensorOverride
from toolkit.memory.estimate import ESTIMATE, EstimatingProbe, estimate
from toolkit.memory.plannable import model_from_source
from toolkit.memory.probe import MemoryProbe
from toolkit.memory.skeleton import write_skeleton
from toolkit.sources.config_source import source_from_config
from toolkit.sources.hf_source import source_from_checkpoint

UNDERESTIMATED = ("mamba", "mamba2", "bert", "nomic_bert", "xlm_roberta", "t5")
"""The formula knows nothing of what a recurrent scan and an attention without a cache work in."""


@pytest.fixture(scope="module")
def probe():
    with MemoryProbe(timeout_seconds=120) as started:
        yield started


@pytest.fixture
def skeleton(kit_checkpoint, tmp_path):
    def write(case):
        planned = model_from_source(source_from_checkpoint(kit_checkpoint(case)), ("q8_0",)).make("q8_0")
        return write_skeleton(planned.metadata, planned.tensors, tmp_path / f"{case}.gguf")

    return write


def sums(footprint, kind):
    return sum(getattr(device, kind) for device in footprint.devices)


@pytest.mark.parametrize("case", [case for case in CASES if case not in UNLOADABLE])
def test_the_estimate_is_held_against_llama_cpp(case, skeleton, probe, record_property):
    path = skeleton(case).path
    settings = LoadSettings(n_ctx=4096, n_gpu_layers=999, device="simulated")
    told, guessed = probe.predict(path, settings), estimate(path, settings)
    errors = {
        kind: (sums(guessed, f"{kind}_bytes") - sums(told, f"{kind}_bytes")) / max(1, sums(told, f"{kind}_bytes"))
        for kind in ("weights", "kv_cache", "compute")
    }
    record_property("estimate_error", (case, round(100 * errors["compute"], 1)))
    assert abs(errors["weights"]) < 0.02
    assert abs(errors["kv_cache"]) < 0.02
    assert abs(errors["compute"]) < (0.65 if case in UNDERESTIMATED else 0.25)
    assert guessed.answered_by == ESTIMATE


@pytest.mark.parametrize("case", ["gemma", "cohere", "smollm3", "falcon"])
@pytest.mark.parametrize("layers", [0, 1, 2, 999])
def test_an_embedding_that_is_the_output_too_lies_on_the_gpu_once_more(skeleton, probe, layers, case):
    path = skeleton(case).path
    settings = LoadSettings(n_ctx=512, n_gpu_layers=layers, device="simulated")
    told, guessed = probe.predict(path, settings), estimate(path, settings)
    for on_host in (False, True):
        weights = [
            sum(each.weights_bytes for each in one.devices if each.on_host is on_host) for one in (told, guessed)
        ]
        assert weights[0] == pytest.approx(weights[1], abs=1024)


@pytest.mark.parametrize("layers", [0, 1, 2, 999])
def test_weights_lie_where_llama_cpp_puts_them(skeleton, probe, layers):
    path = skeleton("qwen3_moe").path
    overrides = (TensorOverride(r"blk\.0\.ffn_(up|down|gate)_exps"),)
    settings = LoadSettings(n_ctx=512, n_gpu_layers=layers, device="simulated", tensor_overrides=overrides)
    told, guessed = probe.predict(path, settings), estimate(path, settings)
    weights = [sum(each.weights_bytes for each in one.devices if not each.on_host) for one in (told, guessed)]
    assert weights[0] == pytest.approx(weights[1], abs=1024)


def test_without_llama_cpp_every_answer_is_an_estimate(skeleton):
    memory_source = EstimatingProbe(None)
    assert memory_source.ask(skeleton("llama3"), LoadSettings(n_ctx=512, n_gpu_layers=3)).answered_by == ESTIMATE
    assert memory_source.reason == "llama-cpp-python is not installed"


def test_only_faults_of_the_machine_are_estimated_around(skeleton):
    def raising(error):
        def ask(_skeleton, _settings):
            raise error

        return EstimatingProbe(ask)

    memory_source = raising(EnvironmentFaultError("it does not tell"))
    assert memory_source.ask(skeleton("llama3"), LoadSettings(n_ctx=512, n_gpu_layers=3)).answered_by == ESTIMATE
    assert memory_source.reason == "it does not tell"
    with pytest.raises(EnvironmentFaultError):
        memory_source.ask(skeleton("llama3"), LoadSettings(n_ctx=512, n_gpu_layers=3, device="gpu"))
    with pytest.raises(GgufError):
        raising(GgufError("damaged")).ask(skeleton("llama3"), LoadSettings(n_ctx=512, n_gpu_layers=3))


def test_the_layers_of_several_gpus_add_up(skeleton):
    path = skeleton("llama3").path
    one, two = (
        estimate(path, LoadSettings(n_ctx=512, n_gpu_layers=999, n_devices=count, tensor_split=split))
        for count, split in ((1, ()), (2, (1.0, 2.0)))
    )
    assert sums(one, "weights_bytes") == sums(two, "weights_bytes")
    assert {device.name for device in two.devices} == {"GPU0", "GPU1", "CPU"}


def test_a_config_alone_can_be_estimated(kit_checkpoint, tmp_path):
    planned = model_from_source(source_from_config(kit_checkpoint("llama3")), ("q8_0",)).make("q8_0")
    path = write_skeleton(planned.metadata, planned.tensors, tmp_path / "s.gguf").path
    assert estimate(path, LoadSettings(n_ctx=512, n_gpu_layers=999)).gpu_bytes > 0


def cached(path, **settings):
    """Return the bytes of caches and states on all devices."""
    found = estimate(path, LoadSettings(n_ctx=512, device="cpu", **settings))
    return sum(device.kv_cache_bytes for device in found.devices)


def test_a_cache_of_other_types_takes_what_they_take(converted):
    path = converted("llama3", "q8_0")
    plain = cached(path)
    assert cached(path, kv_types=KvTypes("q8_0", "q8_0")) == plain * 8.5 / 16
    assert cached(path, kv_types=KvTypes("q8_0")) == plain * (16 + 8.5) / 32


def test_every_sequence_has_a_state_of_its_own(converted):
    path = converted("mamba2", "q8_0")
    assert cached(path, n_parallel=3) == 3 * cached(path) > 0
