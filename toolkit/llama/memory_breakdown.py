"""Read llama.cpp's own account of the memory that a context takes, to the byte.

`llama_get_memory_breakdown` returns a C++ `std::map` by value. libstdc++ lays its header out as {comparison, colour,
root, leftmost, rightmost, count} and a node as {colour, parent, left, right, key, value}; the value is three `size_t`.
Every pointer is held against the list of known buffer types before it is believed. The map's nodes, some 100 bytes
each, are not freed: their destructor is not exported.
"""

import ctypes
import sys
from collections.abc import Iterator
from typing import Any

from toolkit.errors import EnvironmentFaultError
from toolkit.llama.footprint import OUTPUTS, BufferBytes
from toolkit.llama.ggml_devices import known_buffer_types
from toolkit.llama.native import llama_cpp

_WITH_EMBEDDINGS = "t5"
SYMBOL = "_Z26llama_get_memory_breakdownPK13llama_context"
MAX_BUFFER_TYPES = 64
_ADVICE = "install the llama-cpp-python version that this toolkit names, on Linux"


class _MapHeader(ctypes.Structure):
    _fields_ = [
        ("comparison", ctypes.c_uint64),
        ("colour", ctypes.c_uint64),
        ("root", ctypes.c_uint64),
        ("leftmost", ctypes.c_uint64),
        ("rightmost", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
    ]


class _Node(ctypes.Structure):
    _fields_ = [
        ("colour", ctypes.c_uint64),
        ("parent", ctypes.c_uint64),
        ("left", ctypes.c_uint64),
        ("right", ctypes.c_uint64),
        ("buffer_type", ctypes.c_uint64),
        ("weights_bytes", ctypes.c_uint64),
        ("context_bytes", ctypes.c_uint64),
        ("compute_bytes", ctypes.c_uint64),
    ]


def read_memory_breakdown(context: Any) -> tuple[BufferBytes, ...]:
    """Return the bytes of a llama_context and its model per buffer type, sorted by name; empty ones are left out.

    Raises EnvironmentFaultError if this build of llama.cpp does not tell, or in a layout that is not known.
    """
    header = _breakdown_function()(context)
    if not 0 < header.count <= MAX_BUFFER_TYPES:
        raise EnvironmentFaultError(f"llama.cpp's memory account claims {header.count} buffer types; {_ADVICE}")
    nodes = list(_walk(header.root, header.count))
    if len(nodes) != header.count:
        raise EnvironmentFaultError(
            f"llama.cpp's memory account holds {len(nodes)} buffer types, not {header.count}; {_ADVICE}"
        )
    buffers = sorted(_to_buffers(nodes), key=lambda buffer: buffer.name)
    return tuple(buffer for buffer in buffers if buffer.weights_bytes + buffer.kv_cache_bytes + buffer.compute_bytes)


def tells_memory() -> bool:
    """Tell whether this build of llama.cpp has the account, in the layout that is read here."""
    return sys.platform == "linux" and hasattr(llama_cpp()._lib, SYMBOL)


def output_buffer(model: Any, n_outputs: int, n_parallel: int) -> BufferBytes:
    """Return the buffer on the host that a llama_model's logits are copied to, for so many outputs in a batch.

    It begins with one output for each sequence, grows with the first batch that has more, and stays. Source:
    `llama_context::output_reserve` in src/llama-context.cpp of llama.cpp (commit 0c1e570); samplers that run in a graph and
    embeddings, which it has room for too, are not used here.
    """
    library = llama_cpp()
    values = library.llama_vocab_n_tokens(library.llama_model_get_vocab(model))
    name = ctypes.create_string_buffer(64)
    library.llama_model_meta_val_str(model, b"general.architecture", name, len(name))
    if name.value.decode() == _WITH_EMBEDDINGS:
        values += library.llama_model_n_embd_out(model)
    n_bytes = max(n_outputs, n_parallel) * values * ctypes.sizeof(ctypes.c_float)
    return BufferBytes(OUTPUTS, "CPU", True, 0, 0, n_bytes)


def _breakdown_function() -> Any:
    if not tells_memory():
        raise EnvironmentFaultError(f"this build of llama.cpp does not tell how much memory a model takes; {_ADVICE}")
    function = llama_cpp()._lib[SYMBOL]
    # The structure as result type leaves it to libffi where the ABI wants the address of the result.
    function.restype, function.argtypes = _MapHeader, [ctypes.c_void_p]
    return function


def _walk(root: int, count: int) -> Iterator[_Node]:
    pending, seen = [root], 0
    while pending and seen <= count:
        address = pending.pop()
        if address:
            node = _Node.from_address(address)
            seen += 1
            pending += [node.left, node.right]
            yield node


def _to_buffers(nodes: list[_Node]) -> Iterator[BufferBytes]:
    known = known_buffer_types()
    for node in nodes:
        kind = known.get(node.buffer_type)
        if kind is None:
            raise EnvironmentFaultError(f"llama.cpp's memory account names an unknown buffer type; {_ADVICE}")
        sizes = (node.weights_bytes, node.context_bytes, node.compute_bytes)
        yield BufferBytes(kind.name, kind.device, kind.on_host, *sizes)
