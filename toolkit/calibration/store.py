"""What a calibration in sequence keeps on disk: rounded tensors, hidden states between blocks, and how far it is."""

import json
import shutil
from pathlib import Path

import numpy
from numpy.typing import NDArray

from toolkit.calibration.block_model import Blocks
from toolkit.conversion.tensor_plan import TensorPlan
from toolkit.gguf.rows import Bytes

Tokens = NDArray[numpy.int32]
Floats = NDArray[numpy.float32]
_STATE = "state.json"


class Store:
    """What survives a killed run: rounded tensors, the hidden states in front of a block, and which block that is."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self._key = key
        self.block = 0
        state = self._read_state()
        if state is None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        else:
            self.block = state
        self._commit()

    def _read_state(self) -> int | None:
        try:
            state = json.loads((self.folder / _STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        known = isinstance(state, dict) and state.get("key") == self._key and isinstance(state.get("block"), int)
        return int(state["block"]) if known else None

    def _commit(self) -> None:
        work = self.folder / f"{_STATE}.part"
        work.write_text(json.dumps({"key": self._key, "block": self.block}), encoding="utf-8")
        work.replace(self.folder / _STATE)

    def advance(self) -> None:
        """Remember that a block is done, and drop the states in front of it."""
        done, self.block = self.block, self.block + 1
        self._commit()
        for which in ("original", "quantized"):
            self.states_path(which, done).unlink(missing_ok=True)

    def states_path(self, which: str, block: int) -> Path:
        """Return where the hidden states in front of a block lie: float32 [chunks, tokens, n_embd]."""
        return self.folder / f"{which}-{block}.states.npy"

    def save(self, name: str, rows: Bytes) -> None:
        """Keep the rows of a tensor."""
        work = self.folder / "rows.part"
        rows.tofile(work)
        work.replace(self._rows_path(name))

    def rows(self, tensor: TensorPlan) -> Bytes:
        """Return the bytes of a tensor."""
        return numpy.memmap(self._rows_path(tensor.name), numpy.uint8, "r", shape=(tensor.n_bytes,))

    def holds(self, tensor: TensorPlan) -> bool:
        """Tell whether a tensor is done."""
        path = self._rows_path(tensor.name)
        return path.is_file() and path.stat().st_size == tensor.n_bytes

    def _rows_path(self, name: str) -> Path:
        return self.folder / f"{name}.rows"


class States:
    """What the blocks take, chunk by chunk: tokens, or the hidden states in front of them."""

    def __init__(self, store: Store, chunks: Tokens, blocks: Blocks, at_once: int) -> None:
        self._chunks = chunks
        self.parts = [range(start, min(start + at_once, len(chunks))) for start in range(0, len(chunks), at_once)]
        """the numbers of the chunks that are evaluated at once"""
        self._states: dict[str, NDArray[numpy.float32]] = {}
        self._store, self._blocks = store, blocks

    def __call__(self, which: str, part: range) -> Tokens | Floats:
        """Return int32 [chunks, tokens] or float32 [chunks, tokens, n_embd]."""
        if self._blocks.takes_tokens:
            return self._chunks[part.start : part.stop]
        if which not in self._states:
            self._states[which] = numpy.load(self._store.states_path(which, self._blocks.first), mmap_mode="r")
        return numpy.array(self._states[which][part.start : part.stop])
