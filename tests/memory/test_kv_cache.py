"""The outline of KV caches against llama.cpp's own memory, for every architecture of the kit."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from toolkit.gguf.format import Metadata, MetadataValue, ModelKeys, Scalar, ValueType, array, boolean, string, uint32
from toolkit.gguf.ggml_types import TYPES, TensorType
from toolkit.gguf.layout import lay_out
from toolkit.llama.load_settings import LoadSettings
from toolkit.memory.kv_cache import KvCache, WindowPattern, kv_cache
from toolkit.memory.probe import MemoryProbe

REFERENCE = Path(__file__).parents[1] / "kit" / "reference"
NOT_LOADED = {"deepseek_v2_lite", "gemma3n"}
"""llama.cpp knows these models by sizes that the kit's small ones lack, and refuses them."""
CASES = sorted({path.name for path in REFERENCE.iterdir()} - NOT_LOADED)
N_CTX = 256
"""Below every window plus the batch, so that llama.cpp keeps every token in every layer."""


@dataclass(frozen=True)
class Placeholder:
    """A tensor that takes its place in a file and holds nothing."""

    name: str
    shape: tuple[int, ...]
    type: TensorType


def reference(case: str) -> dict[str, Any]:
    text = (REFERENCE / case / "f16.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def metadata_of(case: str) -> Metadata:
    """Return the metadata of a case, without its vocabulary."""
    stored = reference(case)["metadata"]
    kept = {
        key: entry
        for key, entry in stored.items()
        if not key.startswith("tokenizer.") or key == "tokenizer.ggml.token_type_count"
    }
    return {key: read_value(entry) for key, entry in kept.items()}


def read_value(entry: dict[str, Any]) -> MetadataValue:
    type_ = ValueType[entry["type"].removesuffix("[]")]

    def exact(value: Any) -> Scalar:
        return float(value) if type_ in {ValueType.FLOAT32, ValueType.FLOAT64} else value

    if entry["type"].endswith("[]"):
        return array(type_, map(exact, entry["value"]))
    return MetadataValue(type_, exact(entry["value"]))


def write_skeleton(case: str, path: Path) -> Path:
    """Write a sparse file with the shapes of a case and without a vocabulary."""
    tensors = [
        Placeholder(entry["name"], tuple(reversed(entry["shape"])), TYPES[entry["type"]])
        for entry in reference(case)["tensors"]
    ]
    metadata = metadata_of(case)
    embedding = next(tensor for tensor in tensors if tensor.name == "token_embd.weight")
    architecture = ModelKeys(metadata).architecture
    vocabulary = {
        f"{architecture}.vocab_size": uint32(embedding.shape[0]),
        "tokenizer.ggml.model": string("none"),
    }
    layout = lay_out(metadata | vocabulary, tensors)
    with path.open("wb") as file:
        file.write(layout.header)
        file.truncate(layout.file_bytes)
    return path


@pytest.fixture(scope="module")
def memory_probe() -> Iterator[MemoryProbe]:
    with MemoryProbe(timeout_seconds=60) as started:
        yield started


@pytest.mark.parametrize("case", CASES)
def test_bytes_are_those_that_llama_cpp_takes(case: str, memory_probe: MemoryProbe, tmp_path: Path) -> None:
    footprint = memory_probe.predict(
        write_skeleton(case, tmp_path / "model.gguf"), LoadSettings(n_ctx=N_CTX, device="cpu")
    )
    cache = kv_cache(ModelKeys(metadata_of(case)))
    assert cache is not None
    expected = N_CTX * (cache.bytes_per_token + cache.window_bytes_per_token) + cache.recurrent_bytes
    assert sum(device.kv_cache_bytes for device in footprint.devices) == expected


def cache_of(architecture: str, **values: MetadataValue) -> KvCache:
    """Return the cache of a model with these keys; two underscores stand for a dot."""
    keys = {f"{architecture}.{key.replace('__', '.')}": value for key, value in values.items()}
    cache = kv_cache(ModelKeys({"general.architecture": string(architecture)} | keys))
    assert cache is not None
    return cache


def integers(*values: int) -> MetadataValue:
    return array(ValueType.INT32, values)


PLAIN = {
    "block_count": uint32(4),
    "embedding_length": uint32(256),
    "attention__head_count": uint32(4),
    "attention__head_count_kv": uint32(2),
}


def test_layers_are_summed_one_by_one() -> None:
    heads = {"attention__head_count": integers(12, 12, 16, 16), "attention__head_count_kv": integers(3, 3, 4, 4)}
    widths = {"attention__key_length": uint32(64), "attention__value_length": uint32(64)}
    cache = cache_of("openelm", **(PLAIN | heads | widths))
    assert cache.bytes_per_token == (3 + 3 + 4 + 4) * (64 + 64) * 2
    assert cache.full_layers == 4


def test_a_latent_cache_holds_keys_only() -> None:
    lengths = {
        "block_count": uint32(27),
        "attention__head_count": uint32(16),
        "attention__head_count_kv": uint32(1),
        "attention__key_length": uint32(512 + 64),
        "attention__value_length": uint32(512),
    }
    old = cache_of("deepseek2", **lengths)
    assert (old.latent, old.bytes_per_token) == (False, 27 * (576 + 512) * 2)
    mla = {"attention__key_length_mla": uint32(192), "attention__value_length_mla": uint32(128)}
    new = cache_of("deepseek2", **(lengths | mla))
    assert (new.latent, new.bytes_per_token) == (True, 27 * 576 * 2)


def test_windows_stand_apart() -> None:
    cache = cache_of("gemma3", **(PLAIN | {"block_count": uint32(26), "attention__sliding_window": uint32(512)}))
    a_layer = 2 * 2 * 64 * 2
    assert (cache.full_layers, cache.window_layers, cache.window) == (4, 22, 512)
    assert (cache.bytes_per_token, cache.window_bytes_per_token) == (4 * a_layer, 22 * a_layer)


@pytest.mark.parametrize(
    ("architecture", "n_layer", "full"),
    [("cohere2moe", 6, 2), ("smallthinker", 7, 2), ("smallthinker", 1, 1), ("cohere2", 6, 1), ("cohere2", 3, 0)],
)
def test_the_layers_that_see_all_tokens_are_the_first_or_the_last_of_a_period(
    architecture: str, n_layer: int, full: int
) -> None:
    keys = {"block_count": uint32(n_layer), "attention__sliding_window": uint32(512)}
    cache = cache_of(architecture, **(PLAIN | keys))
    assert (cache.full_layers, cache.window_layers) == (full, n_layer - full)


def test_a_pattern_is_llama_cpps_whatever_the_number_of_layers() -> None:
    # `llama_hparams::set_swa_pattern`: without dense_first il % n < n - 1 has a window, with it il % n != 0.
    assert WindowPattern(3).layers(8) == {0, 1, 3, 4, 6, 7}
    assert WindowPattern(3, full_first=True).layers(8) == {1, 2, 4, 5, 7}
    assert WindowPattern(4, full_first=True).layers(5) == {1, 2, 3}
    assert WindowPattern(1).layers(3) == WindowPattern(1, full_first=True).layers(3) == set()


def test_layers_that_name_their_window_are_believed() -> None:
    flags = {
        "attention__sliding_window": uint32(128),
        "attention__sliding_window_pattern": array(ValueType.BOOL, (True, True, False, True)),
        "attention__key_length_swa": uint32(32),
        "attention__value_length_swa": uint32(16),
    }
    cache = cache_of("some-new-model", **(PLAIN | flags))
    assert (cache.full_layers, cache.window_layers) == (1, 3)
    assert cache.window_bytes_per_token == 3 * 2 * (32 + 16) * 2


def test_a_window_that_llama_cpp_ignores_is_ignored() -> None:
    cache = cache_of("phi3", **(PLAIN | {"attention__sliding_window": uint32(2047)}))
    assert (cache.full_layers, cache.window_layers, cache.window) == (4, 0, 0)


def test_layers_that_share_a_cache_cost_nothing() -> None:
    cache = cache_of("gemma3n", **(PLAIN | {"block_count": uint32(30)}))
    assert (cache.full_layers, cache.shared_layers) == (20, 10)


def test_states_stand_apart_from_the_cache() -> None:
    state = {
        "attention__head_count_kv": integers(0, 2, 0, 2),
        "ssm__conv_kernel": uint32(4),
        "ssm__inner_size": uint32(512),
        "ssm__state_size": uint32(16),
    }
    cache = cache_of("jamba", **(PLAIN | state))
    assert (cache.full_layers, cache.recurrent_layers) == (2, 2)
    assert cache.recurrent_bytes == 2 * (3 * (512 + 0) + 16 * 512) * 4


def test_encoders_have_no_cache() -> None:
    cache = cache_of("bert", **(PLAIN | {"attention__causal": boolean(False)}))
    assert (cache.bytes_per_token, cache.full_layers) == (0, 0)


@pytest.mark.parametrize(
    "changed",
    [
        {"block_count": uint32(4_000_000_000)},
        {"block_count": uint32(0)},
        {"block_count": string("4")},
        {"attention__head_count": integers(4, 4)},
        {"attention__head_count": string("4")},
    ],
)
def test_what_cannot_be_told_is_not_told(changed: dict[str, MetadataValue]) -> None:
    keys = {f"llama.{key.replace('__', '.')}": value for key, value in (PLAIN | changed).items()}
    assert kv_cache(ModelKeys({"general.architecture": string("llama")} | keys)) is None


def test_a_file_without_architecture_has_no_cache() -> None:
    assert kv_cache(ModelKeys({})) is None


def keys_of(architecture: str, **values: int) -> ModelKeys:
    sizes = {"block_count": 8, "embedding_length": 64, "attention.head_count": 4, "attention.head_count_kv": 2}
    given = sizes | {name.replace("__", "."): value for name, value in values.items()}
    metadata = {f"{architecture}.{name}": uint32(value) for name, value in given.items()}
    return ModelKeys({"general.architecture": string(architecture), **metadata})


def test_a_pattern_that_the_file_need_not_say_is_that_of_the_architecture() -> None:
    found = kv_cache(keys_of("gemma2"))
    assert found is not None
    assert (found.window, found.window_layers, found.full_layers) == (4096, 4, 4)


def test_layers_that_read_the_cache_of_others_have_none() -> None:
    found = kv_cache(keys_of("gemma4", attention__shared_kv_layers=3))
    assert found is not None
    assert (found.full_layers, found.shared_layers) == (5, 3)
    # Keys and values of two heads of 16 in 16 bits.
    assert found.bytes_per_token == 5 * 2 * 2 * 16 * 2
