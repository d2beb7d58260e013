"""What a loaded model holds: bytes by buffer type of llama.cpp, and by device."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

OUTPUTS = "outputs"
"""the buffer of a context's logits, which llama.cpp's own account leaves out"""
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
    def outputs_bytes(self) -> int:
        """Return what of the compute bytes holds logits."""
        return sum(buffer.compute_bytes for buffer in self.buffers if buffer.name == OUTPUTS)

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

    def document(self) -> dict[str, Any]:
        """Return it as plain values, of which `footprint_from` makes it again."""
        buffers = [asdict(buffer) for device in self.devices for buffer in device.buffers]
        return {"answered_by": self.answered_by, "asked": self.asked, "buffers": buffers}


def footprint_from(document: dict[str, Any]) -> Footprint:
    """Return the footprint behind a document, which may have gone through JSON.

    Raises KeyError or TypeError if it is none.
    """
    buffers = [BufferBytes(**buffer) for buffer in document["buffers"]]
    return by_device(buffers, document["answered_by"], tuple(document["asked"]))


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
