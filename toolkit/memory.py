"""How many bytes a model, its KV cache and its compute graph take on every device, asked of llama.cpp itself.

The question is put to a child process that stays warm: native code that aborts costs one answer, not the program,
and a device that stands in for a GPU is registered there and nowhere else.
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from toolkit import errors
from toolkit.errors import EnvironmentFaultError, ToolkitError

AskedDevice = Literal["auto", "gpu", "stand-in", "cpu"]
FlashAttention = Literal["auto", "on", "off"]
FROM_LOG = "--from-log"
"""argument of the child process"""
_MAPPED = "CPU_Mapped"


@dataclass(frozen=True)
class BufferBytes:
    """What one buffer type of llama.cpp (`CPU`, `CPU_REPACK`, `CUDA0`) holds."""

    name: str
    device: str
    on_host: bool
    weights_bytes: int
    kv_cache_bytes: int
    compute_bytes: int


@dataclass(frozen=True)
class DeviceBytes:
    """What one device holds; `buffers` are the same bytes by buffer type."""

    name: str
    on_host: bool
    weights_bytes: int
    kv_cache_bytes: int
    compute_bytes: int
    buffers: tuple[BufferBytes, ...] = ()

    @property
    def total_bytes(self) -> int:
        """Return the sum of the three kinds."""
        return self.weights_bytes + self.kv_cache_bytes + self.compute_bytes

    @property
    def mappable_bytes(self) -> int:
        """Return the weights that a mapped file holds: the host can drop them and read them again.

        Weights in a layout of the CPU's own (CPU_REPACK) are copies and not among them.
        """
        names = (_MAPPED, "CPU")
        plain = (each for each in self.buffers if each.on_host and (each.name in names or each.name.endswith("_Host")))
        return sum(buffer.weights_bytes for buffer in plain)

    @property
    def mapped_bytes(self) -> int:
        """Return the bytes of the file that are mapped: from the first of a device's weights to the last."""
        return sum(buffer.weights_bytes for buffer in self.buffers if buffer.name == _MAPPED)


@dataclass(frozen=True)
class Footprint:
    """What every device holds, and which device answered (backends align and fuse differently)."""

    devices: tuple[DeviceBytes, ...]
    answered_by: str
    asked: tuple[str, ...] = ()
    """names of the devices that could be used, in llama.cpp's order; one that got nothing is not among `devices`"""

    @property
    def gpu_bytes(self) -> int:
        """Return the bytes on devices with a memory of their own."""
        return sum(device.total_bytes for device in self.devices if not device.on_host)

    def bytes_on(self, name: str) -> int:
        """Return the bytes on the device of that name, 0 if it got none."""
        return sum(device.total_bytes for device in self.devices if device.name == name)

    @property
    def host_bytes(self) -> int:
        """Return the bytes in the host's memory, as if no file were mapped."""
        return sum(device.total_bytes for device in self.devices if device.on_host)


@dataclass(frozen=True)
class TensorOverride:
    """A buffer type for all tensors whose name a regular expression is found in (llama-server's `-ot`)."""

    pattern: str
    buffer_type: str = "CPU"


@dataclass(frozen=True)
class MemorySettings:
    """What the memory depends on; `device` says whom to ask: `auto` is a GPU if there is one, else its stand-in."""

    n_ctx: int
    """tokens of all sequences together"""
    n_gpu_layers: int = 0
    n_batch: int = 512
    n_ubatch: int = 512
    kv_type_k: str = "f16"
    kv_type_v: str = "f16"
    flash_attention: FlashAttention = "auto"
    device: AskedDevice = "auto"
    n_parallel: int = 1
    """sequences"""
    kv_unified: bool = False
    """one cache for all sequences, instead of an equal part for each"""
    swa_full: bool = False
    """keep every token in the layers that see only a window; llama.cpp's library does by default, llama-server does not"""
    tensor_overrides: tuple[TensorOverride, ...] = ()
    tensor_split: tuple[float, ...] = ()
    """layers of each device; none leaves it to llama.cpp"""
    n_devices: int = 1
    """GPUs, or stand-ins for them; more than there are is an error"""
    rpc: tuple[str, ...] = ()
    """endpoints HOST:PORT of llama.cpp's RPC servers, whose devices follow the GPUs"""

    @property
    def of_model(self) -> tuple[Any, ...]:
        """Return the settings that loading a model depends on; the others are its context's."""
        return (
            self.n_gpu_layers,
            self.device,
            self.tensor_overrides,
            self.tensor_split,
            self.n_devices,
            self.rpc,
        )

    def undivided(self) -> Self:
        """Return the settings without a split, as a plan begins with them."""
        return replace(self, n_gpu_layers=0, tensor_overrides=(), tensor_split=())

    def on_cpu(self) -> Self:
        """Return the settings with everything on the CPU of this machine."""
        return replace(self.undivided(), device="cpu", rpc=())

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the settings that `dataclasses.asdict` and JSON made these values of."""
        overrides = tuple(TensorOverride(**override) for override in values["tensor_overrides"])
        lists = {"tensor_split": tuple(values["tensor_split"]), "rpc": tuple(values["rpc"])}
        return cls(**values | lists | {"tensor_overrides": overrides})


def by_device(buffers: Iterable[BufferBytes], answered_by: str, asked: tuple[str, ...] = ()) -> Footprint:
    """Return the footprint that these buffers make up, devices in order of appearance."""
    grouped: dict[tuple[str, bool], list[BufferBytes]] = {}
    for buffer in buffers:
        grouped.setdefault((buffer.device, buffer.on_host), []).append(buffer)
    return Footprint(tuple(_device(*key, group) for key, group in grouped.items()), answered_by, asked)


def _device(name: str, on_host: bool, buffers: list[BufferBytes]) -> DeviceBytes:
    return DeviceBytes(
        name,
        on_host,
        sum(buffer.weights_bytes for buffer in buffers),
        sum(buffer.kv_cache_bytes for buffer in buffers),
        sum(buffer.compute_bytes for buffer in buffers),
        tuple(buffers),
    )


def probe(path: Path, settings: MemorySettings) -> Footprint:
    """Return the footprint of one file; for several questions, keep a `MemoryProbe` open."""
    with MemoryProbe() as memory_probe:
        return memory_probe.probe(path, settings)


class MemoryProbe:
    """A warm child process that answers how much memory a GGUF file, or a skeleton of one, would take."""

    def __init__(self, timeout_seconds: float = 600, *, from_log: bool = False) -> None:
        """Start nothing yet; `from_log` reads llama.cpp's log even where its own account can be read."""
        self._timeout_seconds = timeout_seconds
        self.from_log = from_log
        self._child: _Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def probe(self, path: Path, settings: MemorySettings) -> Footprint:
        """Return the bytes that loading `path` with `settings` would take; nothing is allocated.

        Raises GgufError if llama.cpp refuses the file, EnvironmentFaultError if it cannot answer.
        """
        return _footprint(self._ask(path, [settings], allocate=False)[0])

    def measure(self, path: Path, settings: MemorySettings) -> Footprint:
        """Return the bytes that are taken after `path` was loaded for real, and free them again."""
        return _footprint(self._ask(path, [settings], allocate=True)[0])

    def measure_each(self, path: Path, every: Sequence[MemorySettings]) -> list[Footprint | ToolkitError]:
        """Return the same for several settings, or why llama.cpp refuses one of them.

        Settings in a row that differ in their contexts only share one load.
        """
        return [_footprint_or_error(answer) for answer in self._ask(path, every, allocate=True)]

    def hold(self, path: Path, settings: MemorySettings) -> Footprint:
        """Load `path` and evaluate a batch, and return what it takes; it stays loaded until the next question.

        Who looks at the device from outside finds it at work under `pid`.
        """
        return _footprint(self._ask(path, [settings], allocate=True, hold=True)[0])

    def free_bytes(self, settings: MemorySettings) -> tuple[int, ...]:
        """Return what each device that the settings mean has free now, 0 where its backend does not tell."""
        answer = self._ask(Path(), [settings], allocate=False, devices_only=True)[0]
        if "error" in answer:
            raise _error(answer)
        return tuple(answer["free_bytes"])

    @property
    def pid(self) -> int | None:
        """Return the child's process number, None where there is none."""
        return None if self._child is None else self._child.pid

    def close(self) -> None:
        """End the child process; the next question starts another."""
        child, self._child = self._child, None
        if child is not None:
            child.close()

    def _ask(
        self, path: Path, every: Sequence[MemorySettings], *, allocate: bool, **flags: bool
    ) -> list[dict[str, Any]]:
        settings = [asdict(each) for each in every]
        request = {"path": str(path), "settings": settings, "allocate": allocate, **flags}
        if self._child is None:
            self._child = _Child((FROM_LOG,) if self.from_log else ())
        answer = self._child.ask(json.dumps(request), self._timeout_seconds)
        if answer is None:
            reason = self._child.last_words(self._timeout_seconds)
            self.close()
            raise EnvironmentFaultError(f"{path}: its memory could not be told, llama.cpp {reason}")
        answers: list[dict[str, Any]] = json.loads(answer)
        return answers


class _Child:
    """The child process, and a thread that collects its answers so that waiting for one can end."""

    def __init__(self, arguments: tuple[str, ...]) -> None:
        self._answers: queue.Queue[str | None] = queue.Queue()
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the child
        self._process = subprocess.Popen(
            [sys.executable, "-m", "toolkit.memory_probe", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._messages,
            env=_child_environment(),
            encoding="utf-8",
        )
        self._collector = threading.Thread(target=self._collect, daemon=True)
        self._collector.start()

    @property
    def pid(self) -> int:
        """Return the number of the process."""
        return self._process.pid

    def ask(self, line: str, timeout_seconds: float) -> str | None:
        """Return the answer to a request, None if there is none in time or ever."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            return self._answers.get(timeout=timeout_seconds)
        except (BrokenPipeError, queue.Empty):
            return None

    def last_words(self, timeout_seconds: float) -> str:
        """Return why there was no answer."""
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return f"gave no answer in {timeout_seconds:g} s"
        self._messages.seek(0)
        lines = self._messages.read().decode("utf-8", "replace").strip().splitlines()
        return f"ended with code {code}: {lines[-1] if lines else 'it left no message'}"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._collector.join()
        for stream in (self._process.stdin, self._process.stdout, self._messages):
            if stream is not None:
                # A request that the process did not live to read stays in the buffer.
                with suppress(BrokenPipeError):
                    stream.close()

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)


def _child_environment() -> dict[str, str]:
    package = str(Path(__file__).resolve().parent.parent)
    paths = [package, os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else [package]
    # Without this, an abort starts a debugger if there is one.
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "GGML_NO_BACKTRACE": "1", "PYTHONUTF8": "1"}


def _footprint(answer: dict[str, Any]) -> Footprint:
    found = _footprint_or_error(answer)
    if isinstance(found, ToolkitError):
        raise found
    return found


def _footprint_or_error(answer: dict[str, Any]) -> Footprint | ToolkitError:
    if "error" in answer:
        return _error(answer)
    buffers = (BufferBytes(**buffer) for buffer in answer["buffers"])
    return by_device(buffers, answer["answered_by"], tuple(answer["asked"]))


def _error(answer: dict[str, Any]) -> ToolkitError:
    kind: type[ToolkitError] = getattr(errors, answer["kind"], EnvironmentFaultError)
    return kind(answer["error"])
