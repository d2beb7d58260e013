"""What a model would take, by formula: for machines on which llama.cpp cannot be asked, and marked as an estimate.

Weights are exact. Caches follow `kv_cache`, spread evenly over the layers. Compute buffers are the largest of a graph's
tensors: the logits with the last activations, the mask of the attention, and without flash attention its scores.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from toolkit.errors import CrashError, EnvironmentFaultError
from toolkit.gguf.format import EMBEDDING, ModelKeys, aligned
from toolkit.gguf.ggml_types import tensor_type
from toolkit.gguf.reader import read_gguf
from toolkit.llama.footprint import OUTPUTS, BufferBytes, Footprint, by_device
from toolkit.llama.load_settings import LoadSettings
from toolkit.memory.kv_cache import KvCache, kv_cache
from toolkit.memory.placement import ModelTensors, Placement
from toolkit.memory.plannable import loaded_tensors
from toolkit.memory.skeleton import Skeleton

ESTIMATE = "an estimate by formula, not llama.cpp"
_CELLS = 256
_WITHOUT_FLASH_ATTENTION = ("t5", "t5encoder")
"""They add a bias of positions to the scores."""
_FLOAT_BYTES, _MASK_BYTES, _HALF_BITS = 4, 2, 16


@dataclass(frozen=True)
class _Model:
    keys: ModelKeys
    tensors: ModelTensors
    n_vocab: int
    cache: KvCache | None


class EstimatingProbe:
    """Asks llama.cpp, and estimates what it cannot tell on this machine; `reason` says why, once that happened."""

    def __init__(self, ask: Callable[[Skeleton, LoadSettings], Footprint] | None) -> None:
        self._ask = ask
        self.reason: str | None = None if ask else "llama-cpp-python is not installed"

    def ask(self, skeleton: Skeleton, settings: LoadSettings) -> Footprint:
        """Return a footprint; refusals of the model itself are raised as they are."""
        if self._ask is None:
            return estimate(skeleton.path, settings)
        try:
            return self._ask(skeleton, settings)
        except EnvironmentFaultError as error:
            # A device that was asked for by name is not replaced by arithmetic, and nothing is said of what ends llama.cpp.
            if settings.rpc or settings.device == "gpu" or isinstance(error, CrashError):
                raise
            self.reason = str(error)
            return estimate(skeleton.path, settings)


def estimate(path: Path, settings: LoadSettings) -> Footprint:
    """Return about how many bytes a GGUF file, or a skeleton of one, would take."""
    model = _read(path)
    layers = _layers_on_gpus(model, settings)
    buffers = [_gpu_buffer(model, settings, index, held) for index, held in enumerate(layers)]
    buffers.append(_cpu_buffer(model, settings, buffers))
    outputs = max(settings.n_outputs, settings.n_parallel) * model.n_vocab * _FLOAT_BYTES
    buffers.append(BufferBytes(OUTPUTS, "CPU", True, 0, 0, outputs))
    names = tuple(f"GPU{index}" for index in range(len(layers)))
    held = [buffer for buffer in buffers if buffer.weights_bytes + buffer.kv_cache_bytes + buffer.compute_bytes]
    return by_device(held, ESTIMATE, names)


@lru_cache(maxsize=32)
def _read(path: Path) -> _Model:
    file = read_gguf(path)
    keys = ModelKeys(file.metadata)
    embedding = file.tensors.get(EMBEDDING)
    n_vocab = embedding.shape[0] if embedding is not None else 0
    return _Model(keys, loaded_tensors(keys, file.shaped_tensors), n_vocab, kv_cache(keys))


def _layers_on_gpus(model: _Model, settings: LoadSettings) -> list[range]:
    """Return the layers on each GPU; the last of all is the output."""
    if settings.device == "cpu":
        return []
    total = model.tensors.n_layer + 1
    n_gpu_layers = min(settings.n_gpu_layers, total)
    shares = settings.tensor_split or (1.0,) * settings.n_devices
    starts, reached = [], 0.0
    for share in shares:
        starts.append(total - n_gpu_layers + round(n_gpu_layers * reached / (sum(shares) or 1)))
        reached += share
    return [range(start, stop) for start, stop in zip(starts, [*starts[1:], total], strict=True)]


def _gpu_buffer(model: _Model, settings: LoadSettings, index: int, layers: range) -> BufferBytes:
    n_layer = model.tensors.n_layer
    kept = [re.compile(override.pattern) for override in settings.tensor_overrides]
    on_gpu = model.tensors.on_gpu(Placement(min(settings.n_gpu_layers, n_layer + 1)))
    weights = sum(
        model.tensors.n_bytes[name]
        for name, layer in on_gpu.items()
        if layer in layers and not any(pattern.search(name) for pattern in kept)
    )
    if n_layer in layers and model.tensors.tied:
        weights += model.tensors.n_bytes.get(EMBEDDING, 0)
    blocks = len(layers) - (n_layer in layers)
    cached = _cache_bytes(model, settings) * blocks // max(1, n_layer)
    name, has_output = f"GPU{index}", n_layer in layers
    compute = _compute_bytes(model, settings, has_output, blocks) if layers else 0
    return BufferBytes(name, name, False, weights, cached, compute)


def _cpu_buffer(model: _Model, settings: LoadSettings, gpus: list[BufferBytes]) -> BufferBytes:
    copied = model.tensors.n_bytes.get(EMBEDDING, 0) if model.tensors.tied and gpus and settings.n_gpu_layers else 0
    weights = sum(model.tensors.n_bytes.values()) + copied - sum(gpu.weights_bytes for gpu in gpus)
    cached = _cache_bytes(model, settings) - sum(gpu.kv_cache_bytes for gpu in gpus)
    output_here = not any(gpu.weights_bytes for gpu in gpus)
    blocks = 0 if settings.n_gpu_layers > model.tensors.n_layer and gpus else 1
    compute = _compute_bytes(model, settings, output_here, blocks)
    return BufferBytes("CPU", "CPU", True, max(0, weights), max(0, cached), compute)


def _cache_bytes(model: _Model, settings: LoadSettings) -> int:
    cache = model.cache
    if cache is None:
        return 0
    bits = [tensor_type(name).bits_per_weight for name in (settings.kv_types.k, settings.kv_types.v)]
    scale = bits[0] / _HALF_BITS if cache.latent else sum(bits) / (2 * _HALF_BITS)
    full, windowed = _cells(settings.n_ctx), _windowed_cells(cache, settings)
    tokens = cache.bytes_per_token * full + cache.window_bytes_per_token * windowed
    return round(tokens * scale) + cache.recurrent_bytes * settings.n_parallel


def _windowed_cells(cache: KvCache, settings: LoadSettings) -> int:
    """Return the cells of a layer that sees a window only: the window and one batch."""
    full = _cells(settings.n_ctx)
    streams = 1 if settings.kv_unified else settings.n_parallel
    sequences = settings.n_parallel if settings.kv_unified else 1
    window = streams * _cells(cache.window * sequences + settings.n_ubatch)
    return full if settings.swa_full else min(full, window)


def _cells(tokens: int) -> int:
    return aligned(tokens, _CELLS)


def _compute_bytes(model: _Model, settings: LoadSettings, has_output: bool, blocks: int) -> int:
    """Return the size of a compute buffer: the inputs, then the larger of what a block and what the output needs."""
    keys = model.keys
    flash = settings.flash_attention != "off" and keys.architecture not in _WITHOUT_FLASH_ATTENTION
    batch, width = min(settings.n_ubatch, settings.n_ctx), keys.count("embedding_length")
    heads = (keys.per_layer("attention.head_count", model.tensors.n_layer) or (0,))[0]
    inputs = 2 * batch * width * _FLOAT_BYTES
    logits = batch * model.n_vocab * _FLOAT_BYTES if has_output else 0
    scores = 0 if flash or not blocks else batch * settings.n_ctx * heads * _FLOAT_BYTES
    inner = 2 * batch * keys.count("feed_forward_length") * _FLOAT_BYTES if blocks else 0
    mask = batch * _masked_cells(model, settings) * (_MASK_BYTES if flash else _FLOAT_BYTES)
    return max(logits, inner + scores) + inputs + mask


def _masked_cells(model: _Model, settings: LoadSettings) -> int:
    """Return the cells that masks are made over: one mask for layers that see all tokens, one for those with a window."""
    cache, cells = model.cache, 0
    if cache is not None and cache.full_layers:
        cells += settings.n_ctx
    if cache is not None and cache.window_layers:
        cells += _windowed_cells(cache, settings)
    return cells
