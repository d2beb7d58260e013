"""Memory predicted from a checkpoint, before anything is converted, against llama.cpp's account of a real load.

Prints the largest difference of every architecture; each is 0.
"""

import re
from collections.abc import Iterator
from itertools import product

import pytest
from test_kit_conversion import CASES

from toolkit.config_source import source_from_config
from toolkit.errors import GgufError
from toolkit.hf_source import source_from_checkpoint
from toolkit.memory import Footprint, MemoryProbe, MemorySettings, TensorOverride
from toolkit.memory_skeleton import write_skeleton
from toolkit.placement import placements
from toolkit.plannable import model_from_gguf, model_from_source

WITH_EVERY_SETTING = ("llama3", "mixtral", "gemma3", "phi3", "gpt2")
PROFILE = "q8_0"


@pytest.fixture(scope="module")
def probe() -> Iterator[MemoryProbe]:
    with MemoryProbe(timeout_seconds=120) as started:
        yield started


def by_buffer(footprint: Footprint) -> dict[str, tuple[int, int, int]]:
    return {
        buffer.name: (buffer.weights_bytes, buffer.kv_cache_bytes, buffer.compute_bytes)
        for device in footprint.devices
        for buffer in device.buffers
    }


def difference(one: Footprint, other: Footprint) -> int:
    first, second = by_buffer(one), by_buffer(other)
    pairs = [(first.get(name, (0, 0, 0)), second.get(name, (0, 0, 0))) for name in first.keys() | second.keys()]
    return max(abs(a - b) for left, right in pairs for a, b in zip(left, right, strict=True))


def plain_settings(n_layer: int) -> list[MemorySettings]:
    """Context, KV type and offload in every combination."""
    every = product((512, 4096), ("f16", "q8_0"), (0, n_layer // 2, n_layer + 1))
    return [MemorySettings(n_ctx, layers, kv_type_k=kv, kv_type_v=kv, device="stand-in") for n_ctx, kv, layers in every]


def special_settings(n_layer: int) -> list[MemorySettings]:
    """What else a plan can set."""
    whole = {"n_gpu_layers": n_layer + 1, "device": "stand-in"}
    return [
        MemorySettings(2048, n_parallel=4, **whole),
        MemorySettings(2048, n_parallel=4, kv_unified=True, **whole),
        MemorySettings(2048, swa_full=True, flash_attention="off", **whole),
        MemorySettings(1024, kv_type_k="q8_0", kv_type_v="q4_0", n_ubatch=128, **whole),
        MemorySettings(512, tensor_overrides=(TensorOverride(r"blk\.0\.ffn_"),), **whole),
    ]


@pytest.mark.parametrize("case", CASES)
def test_every_buffer_is_predicted_to_the_byte_from_the_checkpoint(
    case, kit_checkpoint, converted, probe, tmp_path, capsys
):
    planned = model_from_source(source_from_checkpoint(kit_checkpoint(case)), (PROFILE,)).make(PROFILE)
    skeleton = write_skeleton(planned.metadata, planned.tensors, tmp_path / "skeleton.gguf")
    real = converted(case, PROFILE)
    assert real.stat().st_size == planned.file_bytes
    largest = 0
    n_layer = planned.model_tensors.n_layer
    every = plain_settings(n_layer) + (special_settings(n_layer) if case in WITH_EVERY_SETTING else [])
    refused = set()
    for settings in every:
        try:
            taken = probe.measure(real, settings)
        except GgufError as error:
            reason = str(error).partition(": ")[2]
            refused.add(reason)
            with pytest.raises(GgufError, match=re.escape(reason)):
                probe.probe(skeleton.path, settings)
        else:
            largest = max(largest, difference(probe.probe(skeleton.path, settings), taken))
    with capsys.disabled():
        print(f"{case}: largest difference {largest} bytes", *refused, sep="; ")  # noqa: T201
    assert largest == 0


def test_several_devices_never_take_more_than_was_predicted(kit_checkpoint, converted, probe, tmp_path):
    """llama.cpp's simulation sometimes counts one more buffer of activations on a second device than the load needs."""
    planned = model_from_source(source_from_checkpoint(kit_checkpoint("phi3")), (PROFILE,)).make(PROFILE)
    skeleton = write_skeleton(planned.metadata, planned.tensors, tmp_path / "skeleton.gguf")
    for split in ((1.0, 2.0), (2.0, 1.0), (1.0, 1.0, 1.0)):
        settings = MemorySettings(512, 3, device="stand-in", n_devices=len(split), tensor_split=split)
        predicted = list(by_buffer(probe.probe(skeleton.path, settings)).values())
        taken = list(by_buffer(probe.measure(converted("phi3", PROFILE), settings)).values())
        assert [each[:2] for each in predicted] == [each[:2] for each in taken]
        assert all(real[2] <= told[2] for real, told in zip(taken, predicted, strict=True))


def test_a_config_alone_predicts_what_the_checkpoint_does(kit_checkpoint, probe, tmp_path):
    directory = kit_checkpoint("qwen3_moe")
    sources = (source_from_checkpoint(directory), source_from_config(directory))
    footprints = []
    for index, source in enumerate(sources):
        planned = model_from_source(source, ("q4_k_m",)).make("q4_k_m")
        skeleton = write_skeleton(planned.metadata, planned.tensors, tmp_path / f"{index}.gguf")
        footprints.append(probe.probe(skeleton.path, MemorySettings(512, 99, device="stand-in")))
    assert difference(*footprints) == 0


def test_the_bytes_that_a_placement_moves_to_the_gpu_are_those_of_its_tensors(kit_checkpoint, probe, tmp_path):
    planned = model_from_source(source_from_checkpoint(kit_checkpoint("qwen3_moe")), (PROFILE,)).make(PROFILE)
    skeleton = write_skeleton(planned.metadata, planned.tensors, tmp_path / "skeleton.gguf")
    for placement in placements(planned.model_tensors)[1:]:
        settings = MemorySettings(512, placement.n_gpu_layers, device="stand-in", tensor_overrides=placement.overrides)
        footprint = probe.probe(skeleton.path, settings)
        on_gpu = sum(device.weights_bytes for device in footprint.devices if not device.on_host)
        assert on_gpu == pytest.approx(sum(planned.model_tensors.layer_bytes(placement)), abs=1024), placement


def test_a_gguf_file_is_planned_without_its_vocabulary_to_the_same_bytes(converted, probe, tmp_path):
    file = converted("llama3", PROFILE)
    planned = model_from_gguf(file).make("")
    skeleton = write_skeleton(planned.metadata, planned.tensors, tmp_path / "skeleton.gguf")
    settings = MemorySettings(512, 2, device="stand-in")
    assert (planned.profile, planned.file_bytes) == ("Q8_0", file.stat().st_size)
    assert by_buffer(probe.probe(skeleton.path, settings)) == by_buffer(probe.probe(file, settings))
