"""Some blocks of a model, loaded: what their weights are multiplied with, and what the last of them gives.

ggml calls back around every node of the graph; once it has what is wanted, the rest of the graph is left out.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy
from numpy.typing import NDArray

from toolkit.calibration.block_model import Blocks
from toolkit.errors import InputError
from toolkit.gguf.rows import Bytes
from toolkit.importance.moments import InputShape
from toolkit.llama.ggml_tensor import operation_number, read_values, tensor_at, write_bytes
from toolkit.llama.run_settings import RunSettings
from toolkit.llama.runtime import LlamaRuntime
from toolkit.measures.imatrix_collection import weight_name
from toolkit.measures.moment_collection import MomentCollector

Floats = NDArray[numpy.float32]
Tokens = NDArray[numpy.int32]
_OUTPUT_OF_BLOCK = "l_out-"


@dataclass(frozen=True)
class Activations:
    """What a weight was multiplied with."""

    values: Floats
    """float32 [tokens, row length]; of experts [tokens, slots or 1, row length]"""
    experts: NDArray[numpy.int32] | None = None
    """int32 [tokens, slots]: the experts that each token was routed to"""


class _Watcher:
    """Learns which weights share an input and where weights lie; then takes what is wanted of a graph."""

    def __init__(self) -> None:
        self.collector = MomentCollector()
        self.pointers: dict[str, int] = {}
        self.wanted: str | None = None
        self.taken: Activations | None = None
        self._experts_too = operation_number("MUL_MAT_ID")
        self._products = (operation_number("MUL_MAT"), self._experts_too)

    def __call__(self, pointer: int, ask: bool, user_data: object) -> bool:
        """Answer whether a node is wanted, or take its numbers and answer whether to go on."""
        if self.wanted is None:
            self._learn(pointer)
            return self.collector(pointer, ask, user_data) if ask else True
        if not self._is_wanted(pointer):
            return False
        if not ask:
            self.taken = self._take(pointer)
            return False
        return True

    def what_was_taken(self) -> Activations:
        """Return the numbers of what was wanted.

        Raises InputError if the graph had nothing of that name.
        """
        if self.taken is None:
            raise InputError(
                f"llama.cpp's graph of this model has no {self.wanted}, so that its blocks cannot be followed"
            )
        return self.taken

    def _learn(self, pointer: int) -> None:
        node = tensor_at(pointer)
        if node.op in self._products:
            self.pointers[weight_name(tensor_at(node.src[0]).name)] = int(node.src[0])

    def _is_wanted(self, pointer: int) -> bool:
        node = tensor_at(pointer)
        if node.op in self._products:
            return weight_name(tensor_at(node.src[0]).name) == self.wanted
        return bool(node.name.decode("utf-8", "replace") == self.wanted)

    def _take(self, pointer: int) -> Activations:
        node = tensor_at(pointer)
        if node.op not in self._products:
            return Activations(read_values(pointer, numpy.float32)[0, 0].copy())
        values = read_values(node.src[1], numpy.float32)
        if node.op == self._experts_too:
            return Activations(values[0].copy(), read_values(node.src[2], numpy.int32)[0, 0].copy())
        return Activations(values.reshape(-1, values.shape[-1]).copy())


class BlockRuntime(AbstractContextManager["BlockRuntime"]):
    """A file of some blocks in llama.cpp, on the CPU; use it in a `with` statement."""

    def __init__(self, path: Path, blocks: Blocks, chunks: tuple[int, int], n_threads: int | None = None) -> None:
        """Load the file for as many chunks at once, of as many tokens.

        Raises GgufError if llama.cpp refuses it.
        """
        self._blocks = blocks
        self._watcher = _Watcher()
        count = chunks[0] * chunks[1]
        settings = RunSettings(
            n_ctx=count, n_batch=count, n_ubatch=count, n_parallel=chunks[0], n_threads=n_threads, use_mmap=False,
            device_pointers=(), n_outputs=count, on_tensor=self._watcher,
        )  # fmt: skip
        self._runtime = LlamaRuntime(path, settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runtime.close()

    def learn(self, chunks: Tokens | Floats) -> tuple[InputShape, ...]:
        """Return the inputs of the last block's weights and of the output's, in the order of the graph, by their names outside."""
        self._watcher.wanted = None
        self._evaluate(chunks)
        last = f"blk.{self._blocks.last - self._blocks.first}."
        shapes = [shape for shape in self._watcher.collector.shapes() if not self._is_earlier(shape.name, last)]
        return tuple(
            replace(shape, weights=tuple(self._blocks.name_outside(name) for name in shape.weights)) for shape in shapes
        )

    def activations(self, weight: str, chunks: Tokens | Floats) -> Activations:
        """Return what a weight, by its name outside, is multiplied with while chunks are evaluated."""
        inside = self._blocks.name_inside(weight)
        assert inside is not None
        return self._wanted(inside, chunks)

    def output(self, chunks: Tokens | Floats) -> Floats:
        """Return float32 [tokens, n_embd], what the last block gives for chunks.

        Raises InputError if its graph does not name that.
        """
        return self._wanted(f"{_OUTPUT_OF_BLOCK}{self._blocks.last - self._blocks.first}", chunks).values

    def replace_weight(self, weight: str, data: Bytes) -> None:
        """Give a weight, by its name outside, other bytes of its type."""
        inside = self._blocks.name_inside(weight)
        assert inside is not None
        write_bytes(self._watcher.pointers[inside], data)

    def _is_earlier(self, name: str, last: str) -> bool:
        return name.startswith("blk.") and not name.startswith(last)

    def _wanted(self, name: str, chunks: Tokens | Floats) -> Activations:
        self._watcher.wanted, self._watcher.taken = name, None
        self._evaluate(chunks)
        return self._watcher.what_was_taken()

    def _evaluate(self, chunks: Tokens | Floats) -> None:
        if chunks.dtype == numpy.float32:
            self._runtime.feed_embeddings(chunks.astype(numpy.float32, copy=False))
            return
        for _ in self._runtime.evaluate_chunks(chunks.tolist(), slice(None)):
            pass
