"""Which of the files that could be made is best: pure decisions over what fits."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from toolkit.llama.footprint import Footprint

FOUR_BITS = 4.0
SPLIT_PROFILE = "Q4_K_M"
LADDER = ("Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K")
"""From best to smallest; 16-bit files are left out because Q8_0 loses nothing that can be measured."""


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
