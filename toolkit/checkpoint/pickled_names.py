"""The names that the pickle of a PyTorch state dict may contain, and the descriptions of tensors that each becomes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_AXES = 8
MAX_NUMBER = 1 << 62

DTYPES = {
    "float32": "F32", "float64": "F64", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0",
}  # fmt: skip
_STORAGES = {
    "FloatStorage": "F32", "DoubleStorage": "F64", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}  # fmt: skip
UNTYPED = "bytes"


@dataclass(frozen=True)
class Name:
    """A function or type that a pickle names."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module[:60]}.{self.name[:60]}".encode("ascii", "backslashreplace").decode()


@dataclass(frozen=True)
class Storage:
    """An array of numbers in a file of its own; `key` is the file's name."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True)
class View:
    """A tensor: numbers of a storage from `offset` on; all lengths are counted in numbers."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def dtype_of(value: object) -> str | None:
    """Return the dtype that a name stands for, in the spelling of safetensors; None if it is not one."""
    if type(value) is not Name:
        return None
    if value == Name("torch.storage", "UntypedStorage"):
        return UNTYPED
    return (_STORAGES.get(value.name) or DTYPES.get(value.name)) if value.module == "torch" else None


def is_number(value: object) -> bool:
    """Tell whether a value is a count, an offset or a length."""
    return type(value) is int and 0 <= value <= MAX_NUMBER


def _empty_dict(arguments: tuple[Any, ...]) -> dict[str, Any]:
    if arguments:
        raise TypeError("a dict that is not empty")
    return {}


def _view(arguments: tuple[Any, ...]) -> View:
    """(storage, offset, shape, stride, requires_grad, hooks, …)."""
    storage, offset, shape, stride = arguments[:4]
    if type(storage) is not Storage or storage.dtype == UNTYPED:
        raise TypeError("a tensor without a storage")
    return _checked(View(storage, storage.dtype, offset, shape, stride))


def _typed_view(arguments: tuple[Any, ...]) -> View:
    """(storage of bytes, offset, shape, stride, requires_grad, hooks, dtype, …)."""
    storage, offset, shape, stride, _requires_grad, _hooks, type_ = arguments[:7]
    dtype = dtype_of(type_)
    if type(storage) is not Storage or storage.dtype != UNTYPED or dtype in (None, UNTYPED):
        raise TypeError("a tensor without a storage")
    return _checked(View(storage, str(dtype), offset, shape, stride))


def _checked(view: View) -> View:
    if type(view.shape) is not tuple or type(view.stride) is not tuple or len(view.shape) > MAX_AXES:
        raise TypeError("not a shape")
    if len(view.shape) != len(view.stride) or not all(map(is_number, (view.offset, *view.shape, *view.stride))):
        raise ValueError("not a shape")
    return view


def _parameter(arguments: tuple[Any, ...]) -> View:
    """(tensor, requires_grad, hooks)."""
    if type(arguments[0]) is not View:
        raise TypeError("a parameter without a tensor")
    return arguments[0]


BUILDERS: Mapping[tuple[str, str], Callable[[tuple[Any, ...]], object]] = {
    ("collections", "OrderedDict"): _empty_dict,
    ("torch._utils", "_rebuild_tensor_v2"): _view,
    ("torch._utils", "_rebuild_tensor_v3"): _typed_view,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
}
"""(module, name) -> what builds the description, given the arguments of the call; it raises as Python does for others"""
