from dataclasses import replace
from pathlib import Path

import pytest

from toolkit.llama.footprint import BufferBytes, by_device
from toolkit.llama.load_settings import LoadSettings, TensorOverride
from toolkit.machine.disk_cache import cache_folder
from toolkit.memory.cache import CachedProbe, MemoryCache
from toolkit.memory.skeleton import Skeleton

SETTINGS = LoadSettings(
    n_ctx=512, n_gpu_layers=3, device="simulated", tensor_overrides=(TensorOverride("exps"),), tensor_split=(1.0, 2.0)
)
FOOTPRINT = by_device(
    [BufferBytes("RPC0[x]", "RPC0", False, 1, 2, 3), BufferBytes("CPU", "CPU", True, 4, 5, 6)], "it", ("RPC0",)
)
SKELETON = Skeleton(Path("s.gguf"), "digest")


class Counting:
    def __init__(self):
        self.asked = 0

    def predict(self, _path, _settings):
        self.asked += 1
        return FOOTPRINT


def test_an_answer_comes_back_as_it_was(tmp_path):
    kept = MemoryCache(tmp_path)
    assert kept.get(SKELETON, SETTINGS) is None
    kept.put(SKELETON, SETTINGS, FOOTPRINT)
    assert MemoryCache(tmp_path).get(SKELETON, SETTINGS) == FOOTPRINT


@pytest.mark.parametrize(
    "other", [replace(SETTINGS, n_ctx=513), replace(SETTINGS, tensor_overrides=()), replace(SETTINGS, swa_full=True)]
)
def test_other_settings_and_other_models_are_other_questions(tmp_path, other):
    kept = MemoryCache(tmp_path)
    kept.put(SKELETON, SETTINGS, FOOTPRINT)
    assert kept.get(SKELETON, other) is None
    assert kept.get(replace(SKELETON, digest="other"), SETTINGS) is None


def test_what_the_log_said_is_no_answer_for_who_can_read_the_account(tmp_path):
    MemoryCache(tmp_path, from_log=True).put(SKELETON, SETTINGS, FOOTPRINT)
    assert MemoryCache(tmp_path).get(SKELETON, SETTINGS) is None
    assert MemoryCache(tmp_path, from_log=True).get(SKELETON, SETTINGS) == FOOTPRINT


def test_a_damaged_answer_is_as_good_as_none(tmp_path):
    kept = MemoryCache(tmp_path)
    kept.put(SKELETON, SETTINGS, FOOTPRINT)
    for file in (tmp_path / "memory").iterdir():
        file.write_text('{"buffers": [')
    assert kept.get(SKELETON, SETTINGS) is None


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(tmp_path):
    blocked = tmp_path / "a file"
    blocked.touch()
    probe = Counting()
    cached = CachedProbe(probe, MemoryCache(blocked))
    assert cached.ask(SKELETON, SETTINGS) == FOOTPRINT


def test_a_question_is_asked_once(tmp_path):
    probe = Counting()
    for _ in range(2):
        cached = CachedProbe(probe, MemoryCache(tmp_path))
        assert cached.ask(SKELETON, SETTINGS) == cached.ask(SKELETON, SETTINGS) == FOOTPRINT
    assert probe.asked == 1


def test_what_a_server_said_is_not_kept_on_disk(tmp_path):
    probe = Counting()
    remote = replace(SETTINGS, rpc=("127.0.0.1:1",))
    for _ in range(2):
        CachedProbe(probe, MemoryCache(tmp_path)).ask(SKELETON, remote)
    assert probe.asked == 2


@pytest.mark.parametrize("word", ["off", "OFF", "0", ""])
def test_the_cache_can_be_switched_off_and_moved(monkeypatch, tmp_path, word):
    monkeypatch.setenv("GGUF_TOOLKIT_CACHE", word)
    assert cache_folder() is None
    monkeypatch.setenv("GGUF_TOOLKIT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
