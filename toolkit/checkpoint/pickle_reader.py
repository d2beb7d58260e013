"""Interpret the pickle of a PyTorch state dict without running anything that it names.

A pickle is a program for a stack machine. This machine knows the opcodes that a state dict is made of; the few names that
it knows stand for functions of `pickled_names`, which build descriptions. Everything else is refused.

By hand, because a `pickle.Unpickler` whose `find_class` knows the same few names bounds neither memory nor time, and is not
confined to them: in CPython 3.11, 9 bytes (LONG_BINPUT with a large index) take 2 GiB, 70 bytes (a key of tuples that share
tuples) take seconds, twice as many with every further pair of opcodes, and BUILD sets attributes of the functions named.
"""

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from toolkit.checkpoint.pickled_names import BUILDERS, Name, Storage, View, dtype_of, is_number
from toolkit.errors import CheckpointError

MAX_BYTES = 64 << 20
"""a state dict of 100,000 tensors takes 20 MB"""
MAX_STACK = 1 << 20


def read_state_dict(data: bytes, source: str) -> dict[str, View]:
    """Return the tensors of a pickled state dict; `source` names the file in messages.

    Raises CheckpointError if the pickle is damaged, or holds anything but named tensors.
    """
    if len(data) > MAX_BYTES:
        raise CheckpointError(f"{source}: its pickle takes {len(data):,} bytes, more than any state dict does")
    machine = _Machine(source)
    try:
        result = machine.run(data)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise CheckpointError(f"{source}: its pickle is damaged ({type(error).__name__}); download it again") from error
    return _named_views(result, source)


def _named_views(result: object, source: str) -> dict[str, View]:
    if not isinstance(result, dict):
        raise CheckpointError(f"{source} holds a {type(result).__name__}, expected a state dict of named tensors")
    for name, value in result.items():
        if not isinstance(name, str) or not isinstance(value, View):
            raise CheckpointError(
                f"{source} holds a {type(value).__name__} under {str(name)[:80]!r}, expected tensors only: "
                "save the model's state_dict() alone"
            )
    return result


@dataclass
class _Machine:
    source: str
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self, data: bytes) -> object:
        """Interpret a pickle and return what it leaves on the stack."""
        for opcode, argument, _position in pickletools.genops(data):
            if opcode.name == "STOP":
                return self.pop()
            operation = _OPERATIONS.get(opcode.name)
            if operation is None:
                raise CheckpointError(
                    f"{self.source}: its pickle has the opcode {opcode.name}, which no state dict needs"
                )
            operation(self, argument)
            if len(self.stack) > MAX_STACK:
                raise CheckpointError(f"{self.source}: its pickle stacks up more values than any state dict does")
        raise ValueError("no end")

    def push(self, value: object) -> None:
        """Push a value."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Pop a value; raises IndexError rather than reach below a mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise IndexError("nothing on the stack")
        return self.stack.pop()

    def pop_many(self, count: int) -> tuple[Any, ...]:
        """Pop `count` values, the lowest first."""
        return tuple(self.pop() for _ in range(count))[::-1]

    def pop_to_mark(self) -> list[Any]:
        """Pop a mark and all above it."""
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def top(self, kind: type) -> Any:
        """Return the topmost value, which must be of that kind."""
        value = self.pop()
        self.push(value)
        if type(value) is not kind:
            raise TypeError("another kind of value")
        return value

    def name(self, module: str, name: str) -> None:
        """Push a name that is known.

        Raises CheckpointError for every other.
        """
        named = Name(module, name)
        if (module, name) not in BUILDERS and dtype_of(named) is None:
            raise CheckpointError(
                f"{self.source}: its pickle asks for {named}, which no state dict needs; nothing was run. "
                "Do not load this file with torch either; look for safetensors"
            )
        self.push(named)

    def stack_name(self) -> None:
        """Push the name whose module and own part are on the stack."""
        module, name = self.pop_many(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError("a name that is not text")
        self.name(module, name)

    def call(self) -> None:
        """Build what a known name stands for."""
        name, arguments = self.pop_many(2)
        if type(name) is not Name or type(arguments) is not tuple:
            raise TypeError("a call of something else")
        builder = BUILDERS.get((name.module, name.name))
        if builder is None:
            raise TypeError("a call of a type")
        self.push(builder(arguments))

    def persistent(self) -> None:
        """Push the storage that an identifier names: ("storage", type, key, device, count)."""
        kind, type_, key, _device, count = self.pop()
        dtype = dtype_of(type_)
        if kind != "storage" or dtype is None or not isinstance(key, str) or not is_number(count):
            raise TypeError("no storage")
        self.push(Storage(dtype, key, count))

    def set_items(self, values: list[Any]) -> None:
        """Put keys and values into the dict on the stack; keys are texts and numbers, whose hashing is harmless."""
        target = self.top(dict)
        if len(values) % 2 or not all(type(key) in (str, int) for key in values[::2]):
            raise TypeError("keys of another kind")
        target.update(zip(values[::2], values[1::2], strict=True))

    def extend(self, values: list[Any]) -> None:
        """Append values to the list on the stack."""
        self.top(list).extend(values)

    def put(self, index: int) -> None:
        """Remember the topmost value."""
        value = self.pop()
        self.push(value)
        self.memo[index] = value

    def build(self) -> None:
        """Leave out the attributes of a dict: `_metadata`, the versions of modules."""
        self.pop()
        self.top(dict)


def _pushed(value: Callable[[], object]) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(value())


def _push_argument(machine: _Machine, argument: object) -> None:
    machine.push(argument)


_OPERATIONS: Mapping[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda _machine, _: None,
    "FRAME": lambda _machine, _: None,
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "NONE": _pushed(lambda: None),
    "NEWTRUE": _pushed(lambda: True),
    "NEWFALSE": _pushed(lambda: False),
    "EMPTY_DICT": _pushed(dict),
    "EMPTY_LIST": _pushed(list),
    "EMPTY_TUPLE": _pushed(tuple),
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"), _push_argument
    ),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.push(machine.pop_many(1)),
    "TUPLE2": lambda machine, _: machine.push(machine.pop_many(2)),
    "TUPLE3": lambda machine, _: machine.push(machine.pop_many(3)),
    "APPEND": lambda machine, _: machine.extend([machine.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.set_items(list(machine.pop_many(2))),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "BINPUT": lambda machine, index: machine.put(index),
    "LONG_BINPUT": lambda machine, index: machine.put(index),
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    "BINGET": lambda machine, index: machine.push(machine.memo[index]),
    "LONG_BINGET": lambda machine, index: machine.push(machine.memo[index]),
    "GLOBAL": lambda machine, names: machine.name(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda machine, _: machine.stack_name(),
    "REDUCE": lambda machine, _: machine.call(),
    "BINPERSID": lambda machine, _: machine.persistent(),
    "BUILD": lambda machine, _: machine.build(),
}
