"""Choose how many layers go to the GPU, and which file to make: pure decisions over footprints.

llama.cpp puts the last layers on the GPU first; full offload is one more than the number of repeating layers, because
the output counts as a layer.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from toolkit.errors import DoesNotFitError
from toolkit.memory import Footprint
from toolkit.units import format_size

FootprintAt = Callable[[int], Footprint]
FOUR_BITS = 4.0
SPLIT_PROFILE = "Q4_K_M"
LADDER = ("Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K")
"""From best to smallest; 16-bit files are left out because Q8_0 loses nothing that can be measured."""


@dataclass(frozen=True)
class Budget:
    """What a plan may take of the GPU's memory, `margin_bytes` of which stay free."""

    vram_bytes: int
    margin_bytes: int = 0

    def holds(self, footprint: Footprint) -> bool:
        """Tell whether a footprint fits."""
        return footprint.gpu_bytes + self.margin_bytes <= self.vram_bytes

    def missing_bytes(self, footprint: Footprint) -> int:
        """Return by how much a footprint exceeds the budget, 0 if it fits."""
        return max(0, footprint.gpu_bytes + self.margin_bytes - self.vram_bytes)


@dataclass(frozen=True)
class Split:
    """How many layers go to the GPU; `fits_whole` if that is all of them."""

    n_gpu_layers: int
    footprint: Footprint
    fits_whole: bool


class Prefer(StrEnum):
    """What counts where no file of four bits or more fits whole."""

    BALANCE = "balance"
    SPEED = "speed"
    QUALITY = "quality"


@dataclass(frozen=True)
class Choice:
    """A file that could be made: a profile, a KV type, and the split that they allow."""

    profile: str
    bits: float
    """bits per weight of the type that most weights get (Q4_K: 4.5), which says what quality to expect"""
    file_bytes: int
    kv_type: str
    split: Split


def choose_split(footprint_at: FootprintAt, n_layer: int, budget: Budget) -> Split:
    """Return the largest split that fits: all n_layer + 1 layers, else as many as found by bisection.

    A partial offload can need more compute memory than a full one, so every candidate is asked for, none interpolated.
    The layers returned fit, and one more would not. At most 2 + log2(n_layer + 1) footprints are asked for.

    Raises DoesNotFitError if not even an empty offload fits.
    """
    whole = footprint_at(n_layer + 1)
    if budget.holds(whole):
        return Split(n_layer + 1, whole, True)
    fitting = footprint_at(0)
    if not budget.holds(fitting):
        raise DoesNotFitError(
            f"even with no layer offloaded, the GPU needs {format_size(budget.missing_bytes(fitting))} more than "
            f"the budget of {format_size(budget.vram_bytes)} (margin {format_size(budget.margin_bytes)}); "
            "use a shorter context or a smaller batch"
        )
    low, high = 0, n_layer + 1
    while high - low > 1:
        middle = (low + high) // 2
        candidate = footprint_at(middle)
        if budget.holds(candidate):
            low, fitting = middle, candidate
        else:
            high = middle
    return Split(low, fitting, False)


def rank(choices: Iterable[Choice], prefer: Prefer = Prefer.BALANCE) -> list[Choice]:
    """Return the choices, best first.

    Balance: the largest file that fits whole, if it has four bits or more; else Q4_K_M with its first layers on the
    CPU, before a smaller file. Speed: the largest file that fits whole, whatever its bits. Quality: the larger file, split or not.
    A 16-bit KV cache comes before a smaller one where both put as many layers on the GPU.
    """
    return sorted(choices, key=lambda choice: (_tier(choice, prefer), *_within_tier(choice, prefer)))


def _tier(choice: Choice, prefer: Prefer) -> int:
    whole = choice.split.fits_whole
    if prefer is Prefer.QUALITY:
        return 0
    if prefer is Prefer.SPEED:
        return 0 if whole else 1
    if whole and choice.bits >= FOUR_BITS:
        return 0
    if choice.profile.upper() == SPLIT_PROFILE:
        return 1
    return 2 if whole else 3


def _within_tier(choice: Choice, prefer: Prefer) -> tuple[int, int, bool, int, bool]:
    """Order by file, whole fit, layers on the GPU, and 16-bit KV; where speed counts, a split's layers come first."""
    split, layers = not choice.split.fits_whole, -choice.split.n_gpu_layers
    first = layers if prefer is Prefer.SPEED and split else 0
    return first, -choice.file_bytes, split, layers, choice.kv_type != "f16"
