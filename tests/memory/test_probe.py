from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_model import TinyShape, write_tiny_model

from toolkit.errors import EnvironmentFaultError, GgufError
from toolkit.llama.footprint import BufferBytes, by_device
from toolkit.llama.load_settings import KvTypes, LoadSettings
from toolkit.memory.probe import MemoryProbe

LAYERS = 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.gguf", TinyShape(n_layer=LAYERS))


@pytest.fixture(scope="module")
def memory_probe() -> Iterator[MemoryProbe]:
    with MemoryProbe(timeout_seconds=60) as started:
        yield started


@pytest.mark.parametrize("kv_type", ["f16", "q8_0"])
@pytest.mark.parametrize("n_gpu_layers", [0, LAYERS // 2, LAYERS + 1])
def test_predicted_memory_is_that_of_a_real_load_to_the_byte(
    model: Path, memory_probe: MemoryProbe, n_gpu_layers: int, kv_type: str
) -> None:
    settings = LoadSettings(
        n_ctx=512, n_gpu_layers=n_gpu_layers, kv_types=KvTypes(kv_type, kv_type), device="simulated"
    )
    predicted = memory_probe.predict(model, settings)
    assert predicted == memory_probe.measure(model, settings)
    assert (predicted.gpu_bytes > 0) == (n_gpu_layers > 0)
    assert "simulated" in predicted.answered_by


def test_every_layer_brings_its_kv_cache_to_the_device(model: Path, memory_probe: MemoryProbe) -> None:
    def kv_bytes(n_gpu_layers: int) -> dict[bool, int]:
        footprint = memory_probe.predict(model, LoadSettings(n_ctx=1024, n_gpu_layers=n_gpu_layers, device="simulated"))
        return {device.on_host: device.kv_cache_bytes for device in footprint.devices}

    a_layer = 1024 * 2 * 128 * 2
    assert kv_bytes(3) == {True: 2 * a_layer, False: 2 * a_layer}
    assert kv_bytes(LAYERS + 1) == {True: 0, False: LAYERS * a_layer}


def test_a_q8_0_cache_takes_34_bytes_for_32_values(model: Path, memory_probe: MemoryProbe) -> None:
    wide = memory_probe.predict(model, LoadSettings(n_ctx=512, n_gpu_layers=9, device="simulated"))
    narrow = memory_probe.predict(
        model, LoadSettings(n_ctx=512, n_gpu_layers=9, kv_types=KvTypes("q8_0", "q8_0"), device="simulated")
    )
    wide_bytes, narrow_bytes = (sum(device.kv_cache_bytes for device in each.devices) for each in (wide, narrow))
    assert narrow_bytes * 64 == wide_bytes * 34


def test_a_sparse_file_without_its_weights_answers_like_the_real_one(
    model: Path, memory_probe: MemoryProbe, tmp_path: Path
) -> None:
    skeleton = tmp_path / "skeleton.gguf"
    header_bytes = model.stat().st_size - memory_probe_weights(memory_probe, model)
    with skeleton.open("wb") as file:
        file.write(model.read_bytes()[:header_bytes])
        file.truncate(model.stat().st_size)
    settings = LoadSettings(n_ctx=512, n_gpu_layers=3, device="simulated")
    assert memory_probe.predict(skeleton, settings) == memory_probe.predict(model, settings)


def memory_probe_weights(memory_probe: MemoryProbe, model: Path) -> int:
    footprint = memory_probe.predict(model, LoadSettings(n_ctx=512, device="cpu"))
    return sum(device.weights_bytes for device in footprint.devices)


def test_the_cpu_alone_has_no_gpu_bytes(model: Path, memory_probe: MemoryProbe) -> None:
    footprint = memory_probe.predict(model, LoadSettings(n_ctx=512, n_gpu_layers=99, device="cpu"))
    assert footprint.gpu_bytes == 0
    assert footprint.host_bytes > model.stat().st_size
    assert footprint.answered_by == "CPU"


def test_a_refused_file_costs_no_more_than_its_answer(model: Path, memory_probe: MemoryProbe, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + bytes(60))
    settings = LoadSettings(n_ctx=512, device="simulated")
    before = memory_probe.predict(model, settings)
    with pytest.raises(GgufError, match=r"bad\.gguf: llama\.cpp refuses"):
        memory_probe.predict(bad, settings)
    assert memory_probe.predict(model, settings) == before


def test_a_crash_costs_one_answer_and_says_what_was_last_heard(
    model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = LoadSettings(n_ctx=512, device="cpu")
    with MemoryProbe() as crashing:
        (tmp_path / "sitecustomize.py").write_text("import sys; print('out of luck', file=sys.stderr); sys.exit(7)")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        # sitecustomize runs before everything else, so the child ends before it can read the request.
        with pytest.raises(EnvironmentFaultError, match=r"tiny\.gguf: its memory could not be told.*ended with code"):
            crashing.predict(model, settings)
        (tmp_path / "sitecustomize.py").unlink()
        assert crashing.predict(model, settings).host_bytes > 0


def test_a_child_that_hangs_is_given_up(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        MemoryProbe(timeout_seconds=0.2) as hanging,
        pytest.raises(EnvironmentFaultError, match=r"no answer in 0\.2 s"),
    ):
        hanging.predict(model, LoadSettings(n_ctx=512, device="cpu"))


def test_asking_for_a_gpu_that_is_not_there_says_so(model: Path, memory_probe: MemoryProbe) -> None:
    from toolkit.llama.ggml_devices import offload_devices

    settings = LoadSettings(n_ctx=512, device="gpu")
    if offload_devices():
        assert memory_probe.predict(model, settings) == memory_probe.measure(model, settings)
        return
    with pytest.raises(EnvironmentFaultError, match="sees no GPU here"):
        memory_probe.predict(model, settings)


def test_buffers_of_a_device_add_up() -> None:
    buffers = [
        BufferBytes("CPU", "CPU", True, 1, 2, 3),
        BufferBytes("CUDA0", "CUDA0", False, 100, 200, 300),
        BufferBytes("CPU_REPACK", "CPU", True, 10, 0, 0),
    ]
    footprint = by_device(buffers, "CUDA0")
    assert [(device.name, device.total_bytes) for device in footprint.devices] == [("CPU", 16), ("CUDA0", 600)]
    assert (footprint.host_bytes, footprint.gpu_bytes) == (16, 600)
