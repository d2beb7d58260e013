"""What a plan may take, and by how much a footprint exceeds it."""

from dataclasses import dataclass

from toolkit.llama.footprint import Footprint


@dataclass(frozen=True)
class Budgets:
    """What a plan may take: of each GPU, in llama.cpp's order, and of the host's memory."""

    vram_bytes: tuple[int, ...]
    ram_bytes: int
    margin_bytes: int = 0
    """what stays free on each GPU"""
    one_pool: bool = False
    """whether the GPU's memory is the host's, so that `ram_bytes` has to do for both"""

    @property
    def room(self) -> tuple[int, ...]:
        """Return the bytes that can be filled on each GPU."""
        return tuple(max(0, size - self.margin_bytes) for size in self.vram_bytes)

    def excess(self, footprint: Footprint) -> tuple[int, ...]:
        """Return by how much each GPU's budget is exceeded, 0 where it is not."""
        if not footprint.asked and len(self.room) == 1:
            return (max(0, footprint.gpu_bytes - self.room[0]),)
        names = footprint.asked or tuple(device.name for device in footprint.devices if not device.on_host)
        return tuple(max(0, footprint.bytes_on(name) - room) for name, room in zip(names, self.room, strict=False))

    def ram_excess(self, footprint: Footprint) -> int:
        """Return by how much the host's memory is exceeded, 0 if it is not."""
        taken = footprint.host_bytes + (footprint.gpu_bytes if self.one_pool else 0)
        return max(0, taken - self.ram_bytes)

    def holds(self, footprint: Footprint) -> bool:
        """Tell whether a footprint fits the GPUs."""
        return not any(self.excess(footprint))
