"""Read what a model takes from llama.cpp's log: for builds whose memory account cannot be read (macOS, Windows).

The log says on which device each layer lies, so weights follow from the list of tensors, to the byte. Of a cache it gives
the total, and the devices of its layers; of compute buffers the size for each buffer type. Its numbers have two decimals
of a MiB. A cache is a whole number of rows, which mostly leaves one number of bytes that is meant; whatever stays open
is rounded up, by at most `ROUNDING_BYTES`. What is repacked for the CPU counts as the CPU's, and where anything is, so does
a copy of a token embedding that is the CPU's output too, which llama.cpp makes for some types only.

Source: `load_tensors`, `llama_kv_cache`, `llama_memory_recurrent`, `sched_reserve` in src/ of llama.cpp (commit 0c1e570).
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from toolkit.errors import EnvironmentFaultError
from toolkit.gguf.format import EMBEDDING, OUTPUT, ModelKeys
from toolkit.gguf.ggml_types import TensorType, tensor_type
from toolkit.gguf.reader import GgufFile, read_gguf
from toolkit.llama.footprint import BufferBytes
from toolkit.llama.ggml_devices import BufferType, allocated_bytes, known_buffer_types
from toolkit.memory.plannable import loaded_tensors
from toolkit.units import MIB

HALF_A_DIGIT = 0.005
"""MiB by which a number of the log may be off"""
ROUNDING_BYTES = math.ceil(2 * HALF_A_DIGIT * MIB)
_LEAST_ROW = 16
"""values: a head is never narrower"""
_CPU = "CPU"
_ADVICE = "install the llama-cpp-python version that this toolkit names"
_REPACKED = "CPU_REPACK"
_LAYER = re.compile(r"load_tensors: layer\s+(\d+) assigned to device (\S+),")
_OVERRIDE = re.compile(r"tensor (\S+) \(.*\) buffer type overridden to (\S+)")
_UNUSED = re.compile(r"model has unused tensor (\S+) ")
_MADE = re.compile(r"create_tensor: loading tensor (\S+)")
_WEIGHTS = re.compile(r"load_tensors:\s+(\S+) model buffer size =")
_CACHED_LAYER = re.compile(r"llama_kv_cache: layer\s+(\d+): dev = (\S+)")
_CACHE = re.compile(
    r"llama_kv_cache: size =.* \(\s*(\d+) cells,.*/(\d+) seqs\), "
    r"K \((\w+)\):\s*([\d.]+) MiB, V \((\w+)\):\s*([\d.]+) MiB"
)
_STATES = re.compile(r"llama_memory_recurrent:\s+(\S+) RS buffer size =\s*([\d.]+) MiB")
_COMPUTE = re.compile(r"sched_reserve:\s+(\S+) compute buffer size =\s*([\d.]+) MiB")


class MemoryLog:
    """A model of which llama.cpp said in its log how it was loaded."""

    def __init__(self, path: Path, loading: Sequence[str]) -> None:
        """Take the lines that loading the file at `path` left.

        Raises EnvironmentFaultError if they do not say where the layers lie.
        """
        file = read_gguf(path)
        self._keys = ModelKeys(file.metadata)
        self._devices = {int(match[1]): match[2] for match in map(_LAYER.search, loading) if match}
        if not self._devices:
            raise EnvironmentFaultError(
                f"{path}: llama.cpp's log does not say on which device its layers lie; {_ADVICE}"
            )
        self._weights = self._place(file, loading)

    def buffers(self, context: Sequence[str]) -> tuple[BufferBytes, ...]:
        """Return what the model and a context take by buffer type, from the lines that making the context left."""
        cached = self._caches(context)
        # A graph may be reserved more than once; the last one stays.
        compute = {match[1]: rounded_up(match[2]) for match in map(_COMPUTE.search, context) if match}
        names = sorted(set(self._weights) | set(cached) | set(compute))
        return tuple(
            BufferBytes(
                name,
                _buffer_type(name).device,
                _buffer_type(name).on_host,
                self._weights[name],
                cached[name],
                compute.get(name, 0),
            )
            for name in names
        )

    def _place(self, file: GgufFile, loading: Sequence[str]) -> Counter[str]:
        """Return the bytes of weights by buffer type."""
        overridden = {match[1]: match[2] for match in map(_OVERRIDE.search, loading) if match}
        unused = {match[1] for match in map(_UNUSED.search, loading) if match}
        shaped = {tensor.name: tensor for tensor in file.shaped_tensors}
        tensors = loaded_tensors(self._keys, shaped.values())
        found: Counter[str] = Counter()
        for name in tensors.n_bytes.keys() - unused:
            for place in {overridden[name]} if name in overridden else self._places_of(name, tensors.layer_of(name)):
                found[place] += allocated_bytes(place, shaped[name].type, shaped[name].shape)
        output = _default_buffer(self._devices[max(self._devices)])
        if tensors.tied and EMBEDDING in shaped and (output != _CPU or _copies_embedding(loading)):
            found[output] += allocated_bytes(output, shaped[EMBEDDING].type, shaped[EMBEDDING].shape)
        return found

    def _places_of(self, name: str, layer: int | None) -> set[str]:
        """Return the buffer types that hold a tensor: tables of rotary factors lie wherever a layer does."""
        blocks = {_default_buffer(device) for block, device in self._devices.items() if block != max(self._devices)}
        if name.startswith("rope_"):
            return blocks
        if name.startswith("token_embd_norm"):
            first_or_last = max(self._devices) if self._keys.architecture.startswith("lfm2") else 0
            return {_default_buffer(self._devices[first_or_last])}
        return {_default_buffer(self._devices[layer]) if layer is not None else _CPU}

    def _caches(self, context: Sequence[str]) -> Counter[str]:
        """Return the bytes of caches and recurrent states by buffer type."""
        found: Counter[str] = Counter()
        layers: dict[int, str] = {}
        for line in context:
            if match := _CACHED_LAYER.search(line):
                layers[int(match[1])] = _default_buffer(match[2])
            elif match := _CACHE.search(line):
                rows = int(match[1]) * int(match[2])
                total = sum(exact_bytes(match[at + 1], rows, tensor_type(match[at])) for at in (3, 5))
                found.update(self._shared(total, layers))
                layers = {}
            elif match := _STATES.search(line):
                found[match[1]] += rounded_up(match[2])
        return found

    def _shared(self, total: int, layers: dict[int, str]) -> Counter[str]:
        """Divide a cache between the buffer types of its layers, by their key and value heads."""
        n_layer = self._keys.count("block_count")
        heads = self._keys.per_layer("attention.head_count_kv", n_layer) or (1,) * n_layer
        found: Counter[str] = Counter()
        for layer, name in layers.items():
            found[name] += heads[layer]
        return Counter({name: round(total * share / max(1, sum(found.values()))) for name, share in found.items()})


def _copies_embedding(loading: Sequence[str]) -> bool:
    """Tell whether a token embedding that is the output too may lie on the CPU twice.

    It does where it is repacked as the output, and where the output is made first, as for Gemma 4: llama.cpp looks for
    an earlier copy only.
    """
    made = [match[1] for match in map(_MADE.search, loading) if match]
    output_first = OUTPUT in made and made.index(OUTPUT) < made.index(EMBEDDING)
    return output_first or any(match[1] == _REPACKED for match in map(_WEIGHTS.search, loading) if match)


def rounded_up(mebibytes: str) -> int:
    """Return the most bytes that a number of the log can mean."""
    return math.ceil((float(mebibytes) + HALF_A_DIGIT) * MIB)


def exact_bytes(mebibytes: str, rows: int, type_: TensorType) -> int:
    """Return the bytes of keys or values in a cache of so many rows, rounded up where more than one number is possible."""
    unit = rows * type_.row_bytes(max(type_.block_length, _LEAST_ROW))
    nearest = round(float(mebibytes) * MIB / unit) * unit
    # A byte more, because half a digit is no number of float's.
    certain = unit > ROUNDING_BYTES and abs(nearest - float(mebibytes) * MIB) <= HALF_A_DIGIT * MIB + 1
    return nearest if certain else rounded_up(mebibytes)


@cache
def _buffer_type(name: str) -> BufferType:
    for kind in known_buffer_types().values():
        if kind.name == name:
            return kind
    raise EnvironmentFaultError(f"llama.cpp's log names an unknown buffer type {name!r}; {_ADVICE}")


@cache
def _default_buffer(device: str) -> str:
    """Return the buffer type in which a device holds tensors, by its name in ggml."""
    if device == _CPU:  # memory of the host that a GPU can reach goes by that device too
        return _CPU
    for kind in known_buffer_types().values():
        if kind.device == device:
            return kind.name
    raise EnvironmentFaultError(f"llama.cpp's log names an unknown device {device!r}; {_ADVICE}")
