"""What every format of quantized checkpoints is given, and what it makes of that.

Given are the packed tensors (`Parts`) and what is declared about them; made are tensors whose rows are dequantized when they
are read. A format is one module with a `QuantizedFormat`, which `registry` lists.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from toolkit.checkpoint.tensor import CheckpointTensor, StoredTensor
from toolkit.errors import CheckpointError
from toolkit.gguf.ggml_types import F32, TensorType
from toolkit.gguf.rows import Bytes, RowSource
from toolkit.name_patterns import name_pattern
from toolkit.pattern_syntax import PatternError
from toolkit.quantized_sources.numbers import Floats, Numbers, numbers

ReadFloats = Callable[[int, int], Floats]


@dataclass(frozen=True)
class Grid:
    """The integers behind dequantized rows: w = scale * (code - zero), or scale * code + minimum.

    All functions take a range of rows. Groups are `group_size` consecutive columns.
    """

    bits: int
    group_size: int
    codes: Callable[[int, int], NDArray[numpy.uint8]]
    """[rows, columns]"""
    scales: ReadFloats
    """[rows, groups]"""
    zeros: Callable[[int, int], NDArray[numpy.int16]] | None = None
    """[rows, groups]"""
    minimums: ReadFloats | None = None
    """[rows, groups], in place of zeros"""


@dataclass(frozen=True)
class DequantizedRows:
    """Rows of packed codes, delivered as float32; `values(start, stop)` returns float32 [stop - start, row length]."""

    shape: tuple[int, ...]
    values: ReadFloats
    type: TensorType = F32

    def read_rows(self, start: int, stop: int) -> Bytes:
        """Return uint8 [stop - start, row length * 4]."""
        # codes that mean infinity or NaN are refused later, by name
        with numpy.errstate(over="ignore", invalid="ignore"):
            values = self.values(start, stop)
        return numpy.ascontiguousarray(values, dtype="<f4").view(numpy.uint8).reshape(stop - start, -1)


@dataclass(frozen=True)
class DequantizedTensor:
    """A tensor that is computed from several packed ones."""

    name: str
    source: RowSource
    parts: tuple[CheckpointTensor, ...]
    grid: Grid | None = None
    """the integers behind the rows, if every group is a run of columns"""
    blocks: RowSource | None = None
    """the same weights in quant blocks of GGUF, where it has the format itself (MXFP4)"""

    @property
    def dtype(self) -> str:
        """Return the type in which its rows are delivered."""
        return self.source.type.name

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape, row length last."""
        return self.source.shape

    @property
    def file(self) -> Path:
        """Return the file that holds its codes."""
        return self.parts[0].file

    @property
    def n_bytes(self) -> int:
        """Return the bytes that its packed parts take in the checkpoint."""
        return sum(part.n_bytes for part in self.parts)

    def rows(self) -> RowSource:
        """Return its rows as floats."""
        return self.source


@dataclass(frozen=True)
class DecodedTensors:
    """What a format makes of a checkpoint: the tensors in place of packed ones, and what else is left out."""

    tensors: Mapping[str, DequantizedTensor]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """name -> why"""
    warnings: tuple[str, ...] = ()

    @property
    def packed_names(self) -> set[str]:
        """Return the names of the packed tensors that these are made of."""
        return {part.name for tensor in self.tensors.values() for part in tensor.parts}


ADVICE = "convert the original in bf16 or f16"
WORDS, BYTES, FLOATS = ("I32", "U32"), ("U8",), ("F16", "BF16", "F32", "F8_E4M3")


@dataclass(frozen=True)
class Declaration:
    """What a checkpoint says about its quantization: the method, its settings, and the file that says so."""

    method: str
    settings: Mapping[str, Any]
    file: str
    of_modules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """module -> its own settings, which replace those of all"""

    def integer(self, *keys: str) -> int:
        """Return the first of these settings that is present.

        Raises CheckpointError if it is not an integer.
        """
        value = next((self.settings[key] for key in keys if self.settings.get(key) is not None), None)
        if isinstance(value, bool) or not isinstance(value, int):
            raise CheckpointError(
                f"{self.file}: {keys[0]} of the {self.method} quantization is {value!r}, expected a number"
            )
        return value

    def of_module(self, module: str) -> "Declaration":
        """Return the declaration with the settings of one module: its own, else those that GPTQModel's `dynamic` gives it.

        `dynamic` is {"+:REGEX": {"bits": 8}}; the first pattern that matches the beginning of the name counts, and `-:`
        stands before modules that are not quantized.

        Raises CheckpointError if `dynamic` is something else.
        """
        if module in self.of_modules:
            return replace(self, settings={**self.settings, **self.of_modules[module]})
        overrides = self.settings.get("dynamic") or {}
        try:
            for pattern, override in overrides.items():
                if not pattern.startswith("-:") and name_pattern(pattern.removeprefix("+:")).matches_start(module):
                    return replace(self, settings={**self.settings, **override})
        except PatternError as error:
            raise self.refusal(f"with the pattern {pattern[:60]!r} in dynamic: {error}", module) from error
        except (AttributeError, TypeError, ValueError) as error:
            raise self.refusal(f"with dynamic {str(overrides)[:60]!r}", module) from error
        return self

    def refusal(self, what: str, module: str | None = None) -> CheckpointError:
        """Return the error for a variant of the method that is not read."""
        where = f" (first: {module})" if module else ""
        return CheckpointError(f"{self.file}: {self.method} quantization {what}{where}, which cannot be read; {ADVICE}")


@dataclass(frozen=True)
class Parts:
    """The tensors of a quantized checkpoint, and what it declares; a missing or odd part is an error that names it."""

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
        part = self.get(name)
        if part is None:
            raise CheckpointError(
                f"{beside} is quantized ({self.declaration.method}), but its companion {name} is missing: "
                "the set is incomplete; download it again"
            )
        return part

    def require_matrix(self, name: str, beside: str, dtypes: tuple[str, ...]) -> Numbers:
        """Return the numbers of a tensor of two axes.

        Raises CheckpointError if it is missing, or of another type or shape.
        """
        part = self.require(name, beside)
        if len(part.shape) != 2 or part.dtype not in dtypes:
            raise CheckpointError(
                f"{name} is {part.dtype} {list(part.shape)}, but {self.declaration.method} stores "
                f"{' or '.join(dtypes)} of two axes there"
            )
        return part

    def require_shape(self, part: Numbers, expected: tuple[int, ...]) -> Numbers:
        """Return the same numbers.

        Raises CheckpointError if they are not of the expected shape.
        """
        if part.shape != expected:
            raise CheckpointError(
                f"{part.name} has shape {list(part.shape)}, but {self.declaration.method} stores {list(expected)} there"
            )
        return part

    def tensor(
        self, name: str, shape: tuple[int, ...], values: ReadFloats, parts: tuple[str, ...]
    ) -> DequantizedTensor:
        """Return a tensor that is computed from `parts`; those of them that are absent do not count."""
        return self.tensor_of(name, DequantizedRows(shape, values), parts)

    def tensor_of(self, name: str, source: RowSource, parts: tuple[str, ...]) -> DequantizedTensor:
        """Return a tensor with the rows of `source`, which reads `parts`."""
        if name in self.tensors and name not in parts:
            raise CheckpointError(f"{name} is stored both as it is and packed ({parts[0]}); the checkpoint is mixed up")
        return DequantizedTensor(name, source, tuple(self.tensors[part] for part in parts if part in self.tensors))

    def _stored(self, name: str) -> StoredTensor:
        tensor = self.tensors[name]
        if not isinstance(tensor, StoredTensor):
            raise CheckpointError(f"{name} is not stored in one piece, as a packed tensor must be")
        return tensor


@dataclass(frozen=True)
class QuantizedFormat:
    """A way of storing quantized weights: how a checkpoint that uses it is recognized, and how it is decoded."""

    names: tuple[str, ...]
    """values of quant_method in config.json"""
    decode: Callable[[Parts], DecodedTensors]
    library: str = ""
    """who writes it, as messages call it"""
    endings: tuple[str, ...] = ()
    """endings of tensor names that plain checkpoints do not have"""
    older_names: tuple[str, ...] = ()
    """values of quant_method that mean the first of `names`"""
    file: str | None = None
    """a file beside config.json in which older versions declare it; named so that the hub's downloads include it"""
    implied_by: Callable[[Mapping[str, Any]], bool] = lambda _settings: False
    """whether settings without a quant_method are those of this format"""
