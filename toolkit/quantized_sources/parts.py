"""The packed tensors of a checkpoint, looked up with errors that name what is missing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from toolkit.checkpoint.tensor import CheckpointTensor, StoredTensor
from toolkit.errors import CheckpointError
from toolkit.gguf.rows import RowSource
from toolkit.quantized_sources.declaration import Declaration
from toolkit.quantized_sources.dequantized import DequantizedRows, DequantizedTensor, ReadFloats
from toolkit.quantized_sources.numbers import Numbers, numbers

WORDS, BYTES, FLOATS = ("I32", "U32"), ("U8",), ("F16", "BF16", "F32", "F8_E4M3")


@dataclass(frozen=True)
class Parts:
    """All tensors of a checkpoint, and what its config says about their quantization."""

    tensors: Mapping[str, CheckpointTensor]
    declaration: Declaration

    def modules(self, suffix: str) -> Iterator[str]:
        """Yield the names of modules that have a tensor MODULE + `suffix`."""
        for name in self.tensors:
            if name.endswith(suffix):
                yield name.removesuffix(suffix)

    def get(self, name: str) -> Numbers | None:
        """Return a tensor's numbers, None if there is no such tensor."""
        return numbers(self._stored(name)) if name in self.tensors else None

    def require(self, name: str, beside: str) -> Numbers:
        """Return a tensor's numbers.

        Raises CheckpointError if it is missing beside the tensor `beside`.
        """
        found = self.get(name)
        if found is None:
            raise CheckpointError(
                f"{beside} is quantized ({self.declaration.method}), but its companion {name} is missing: "
                "the set is incomplete; download it again"
            )
        return found

    def require_matrix(self, name: str, beside: str, dtypes: tuple[str, ...]) -> Numbers:
        """Return the numbers of a tensor of two axes.

        Raises CheckpointError if it is missing, or of another type or shape.
        """
        found = self.require(name, beside)
        if len(found.shape) != 2 or found.dtype not in dtypes:
            raise CheckpointError(
                f"{name} is {found.dtype} {list(found.shape)}, but {self.declaration.method} stores "
                f"{' or '.join(dtypes)} of two axes there"
            )
        return found

    def require_shape(self, found: Numbers, expected: tuple[int, ...]) -> Numbers:
        """Return the same numbers.

        Raises CheckpointError if they are not of the expected shape.
        """
        if found.shape != expected:
            raise CheckpointError(
                f"{found.name} has shape {list(found.shape)}, but {self.declaration.method} stores {list(expected)} there"
            )
        return found

    def tensor(
        self, name: str, shape: tuple[int, ...], values: ReadFloats, parts: tuple[str, ...]
    ) -> DequantizedTensor:
        """Return a tensor that stands for `parts`; names of those that are absent do not count."""
        return self.tensor_of(name, DequantizedRows(shape, values), parts)

    def tensor_of(self, name: str, source: RowSource, parts: tuple[str, ...]) -> DequantizedTensor:
        """Return a tensor with the rows of `source` that stands for `parts`."""
        if name in self.tensors and name not in parts:
            raise CheckpointError(f"{name} is stored both as it is and packed ({parts[0]}); the checkpoint is mixed up")
        return DequantizedTensor(name, source, tuple(self.tensors[part] for part in parts if part in self.tensors))

    def _stored(self, name: str) -> StoredTensor:
        tensor = self.tensors[name]
        if not isinstance(tensor, StoredTensor):
            raise CheckpointError(f"{name} is not stored in one piece, as a packed tensor must be")
        return tensor
