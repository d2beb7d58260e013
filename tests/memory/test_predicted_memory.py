"""Memory predicted from a checkpoint, before anything is converted, against llama.cpp's account of a real load.

The largest difference of every architecture is printed at the end of a run; each is 0.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from kit_cases import CASES, UNLOADABLE
from smollm2 import smollm2_checkpoint
from sparse_file import write_without_weights

from toolkit.conversion.convert import write_gguf
from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.errors import GgufError
from toolkit.llama.footprint import Footprint
from toolkit.llama.load_settings import KvTypes, LoadSettings, TensorOverride
from toolkit.memory.placement import placements
from toolkit.memory.plannable import model_from_gguf, model_from_source
from toolkit.memory.probe import MemoryProbe
from toolkit.memory.skeleton import write_skeleton
from toolkit.quant_profile import load_profile
from toolkit.sources.config_source import source_from_config
from toolkit.sources.hf_source import source_from_checkpoint

MAKE_CHECKPOINT = Path(__file__).parents[2] / "scripts" / "make_checkpoint.py"
CONTEXTS = (512, 4096, 32768)
NARROW_HEADS = "q8_0 with block size 32 does not divide n_embd_head_k"
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


def plain_settings(n_layer: int) -> list[LoadSettings]:
    """Offload, context and KV type in every combination; those of one offload in a row, so that they share a load."""
    every = product((0, n_layer // 2, n_layer + 1), CONTEXTS, ("f16", "q8_0"))
    return [
        LoadSettings(n_ctx=n_ctx, n_gpu_layers=layers, kv_types=KvTypes(kv, kv), device="simulated")
        for layers, n_ctx, kv in every
    ]


def special_settings(n_layer: int) -> list[LoadSettings]:
    """What else a plan can set."""
    whole = {"n_gpu_layers": n_layer + 1, "device": "simulated"}
    return [
        LoadSettings(n_ctx=2048, n_parallel=4, **whole),
        LoadSettings(n_ctx=2048, n_parallel=4, kv_unified=True, **whole),
        LoadSettings(n_ctx=2048, swa_full=True, flash_attention="off", **whole),
        LoadSettings(n_ctx=1024, kv_types=KvTypes("q8_0", "q4_0"), n_ubatch=128, **whole),
        LoadSettings(n_ctx=512, tensor_overrides=(TensorOverride(r"blk\.0\.ffn_"),), **whole),
    ]


@pytest.fixture
def largest_difference(probe, tmp_path, record_property):
    """Give a function: checkpoint, file made of it, profile -> bytes of the largest difference, and what was refused."""

    def compare(checkpoint, real, profile, more_settings=lambda _: []):
        planned = model_from_source(source_from_checkpoint(checkpoint), (profile,)).make(profile)
        skeleton = write_skeleton(planned.metadata, planned.tensors, tmp_path / "skeleton.gguf").path
        assert real.stat().st_size == planned.file_bytes
        n_layer, refused, differences = planned.model_tensors.n_layer, set(), []
        every = plain_settings(n_layer) + more_settings(n_layer)
        for settings, taken in zip(every, probe.measure_each(real, every), strict=True):
            if isinstance(taken, GgufError):
                reason = str(taken).partition(": ")[2]
                refused.add(reason)
                with pytest.raises(GgufError, match=re.escape(reason)):
                    probe.predict(skeleton, settings)
            else:
                assert isinstance(taken, Footprint)
                differences.append(difference(probe.predict(skeleton, settings), taken))
        for largest in [max(differences)] if differences else []:
            record_property("memory_difference", (planned.metadata["general.architecture"].value, largest))
        return max(differences, default=None), refused

    return compare


@pytest.mark.parametrize("case", CASES)
def test_every_buffer_is_predicted_to_the_byte_from_the_checkpoint(case, kit_checkpoint, converted, largest_difference):
    more = special_settings if case in WITH_EVERY_SETTING else lambda _: []
    largest, refused = largest_difference(kit_checkpoint(case), converted(case, PROFILE), PROFILE, more)
    assert largest == (None if case in UNLOADABLE else 0)
    assert {reason for reason in refused if not re.search(UNLOADABLE.get(case, NARROW_HEADS), reason)} == set()


def test_a_real_model_is_predicted_to_the_byte(request, largest_difference, tmp_path):
    checkpoint = smollm2_checkpoint(request.config)
    real = tmp_path / "real.gguf"
    write_gguf(plan_conversion(source_from_checkpoint(checkpoint), load_profile("q4_k_m")), real)
    assert largest_difference(checkpoint, real, "q4_k_m") == (0, set())


def test_a_model_of_a_billion_weights_is_predicted_to_the_byte(largest_difference, tmp_path):
    """The weights are zeros in a sparse file; llama.cpp reads and places them as any others."""
    checkpoint, real = tmp_path / "checkpoint", tmp_path / "real.gguf"
    subprocess.run([sys.executable, MAKE_CHECKPOINT, checkpoint, "--sparse"], check=True)
    write_without_weights(plan_conversion(source_from_checkpoint(checkpoint), load_profile("q4_k_m")), real)
    assert largest_difference(checkpoint, real, "q4_k_m") == (0, set())


def divided_settings(n_layer: int) -> list[LoadSettings]:
    """Several devices, whole and all but the output; and one device with a block, a part of one or two on the CPU."""
    found = [
        LoadSettings(n_ctx=1024, n_gpu_layers=layers, device="simulated", n_devices=len(split), tensor_split=split)
        for layers in (n_layer + 1, n_layer)
        for split in ((1.0, 1.0), (1.0, float(n_layer)), (float(n_layer), 1.0), (1.0, 1.0, 1.0))
    ]
    patterns = (r"blk\.0\.", r"blk\.1\.", rf"blk\.{n_layer - 1}\.", r"blk\.0\.attn_", r"ffn_down", r"blk\.(0|1)\.ffn_")
    found += [
        LoadSettings(n_ctx=512, n_gpu_layers=layers, device="simulated", tensor_overrides=(TensorOverride(pattern),))
        for layers in (n_layer + 1, n_layer)
        for pattern in patterns
    ]
    both = (TensorOverride(r"blk\.1\."),)
    return [
        *found,
        LoadSettings(
            n_ctx=1024, n_gpu_layers=n_layer + 1, n_ubatch=128, device="simulated", n_devices=2, tensor_split=(1.0, 2.0)
        ),
        LoadSettings(
            n_ctx=1024, n_gpu_layers=n_layer + 1, n_parallel=2, device="simulated", n_devices=2, tensor_split=(1.0, 2.0)
        ),
        LoadSettings(n_ctx=1024, n_gpu_layers=n_layer + 1, device="simulated", n_devices=2, tensor_overrides=both),
    ]


@pytest.mark.parametrize(
    "case", ["llama3", "phi3", "gemma3", "gpt2", "falcon", "mixtral", "qwen3_next", "exaone_moe", "jamba", "gemma4"]
)
def test_several_devices_and_overrides_take_what_was_predicted(case, kit_checkpoint, converted, probe, tmp_path):
    planned = model_from_source(source_from_checkpoint(kit_checkpoint(case)), (PROFILE,)).make(PROFILE)
    skeleton = write_skeleton(planned.metadata, planned.tensors, tmp_path / "skeleton.gguf")
    every = divided_settings(planned.model_tensors.n_layer)
    taken = probe.measure_each(converted(case, PROFILE), every)
    differences = {
        settings: difference(probe.predict(skeleton.path, settings), real)
        for settings, real in zip(every, taken, strict=True)
    }
    assert {settings: found for settings, found in differences.items() if found} == {}


def test_a_config_alone_predicts_what_the_checkpoint_does(kit_checkpoint, probe, tmp_path):
    directory = kit_checkpoint("qwen3_moe")
    sources = (source_from_checkpoint(directory), source_from_config(directory))
    footprints = []
    for index, source in enumerate(sources):
        planned = model_from_source(source, ("q4_k_m",)).make("q4_k_m")
        skeleton = write_skeleton(planned.metadata, planned.tensors, tmp_path / f"{index}.gguf")
        footprints.append(probe.predict(skeleton.path, LoadSettings(n_ctx=512, n_gpu_layers=99, device="simulated")))
    assert difference(*footprints) == 0


@pytest.mark.parametrize("case", ["qwen3_moe", "gpt_oss"])
def test_the_bytes_that_a_placement_moves_to_the_gpu_are_those_of_its_tensors(case, kit_checkpoint, probe, tmp_path):
    planned = model_from_source(source_from_checkpoint(kit_checkpoint(case)), (PROFILE,)).make(PROFILE)
    skeleton = write_skeleton(planned.metadata, planned.tensors, tmp_path / "skeleton.gguf")
    for placement in placements(planned.model_tensors)[1:]:
        settings = LoadSettings(
            n_ctx=512, n_gpu_layers=placement.n_gpu_layers, device="simulated", tensor_overrides=placement.overrides
        )
        footprint = probe.predict(skeleton.path, settings)
        on_gpu = sum(device.weights_bytes for device in footprint.devices if not device.on_host)
        assert on_gpu == pytest.approx(sum(planned.model_tensors.layer_bytes(placement)), abs=1024), placement


def test_a_gguf_file_is_planned_without_its_vocabulary_to_the_same_bytes(converted, probe, tmp_path):
    file = converted("llama3", PROFILE)
    planned = model_from_gguf(file).make("")
    skeleton = write_skeleton(planned.metadata, planned.tensors, tmp_path / "skeleton.gguf")
    settings = LoadSettings(n_ctx=512, n_gpu_layers=2, device="simulated")
    assert (planned.profile, planned.file_bytes) == ("Q8_0", file.stat().st_size)
    assert by_buffer(probe.predict(skeleton.path, settings)) == by_buffer(probe.predict(file, settings))
