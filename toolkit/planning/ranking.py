"""Which of the files that could be made is best: pure decisions over what fits."""

from dataclasses import dataclass
from enum import StrEnum

FOUR_BITS = 4.0
SPLIT_PROFILE = "Q4_K_M"
LADDER = ("Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K")
"""From best to smallest; 16-bit files are left out because Q8_0 loses nothing that can be measured."""


class Prefer(StrEnum):
    """What counts where no file of four bits or more fits whole."""

    BALANCE = "balance"
    SPEED = "speed"
    QUALITY = "quality"


@dataclass(frozen=True)
class Candidate:
    """What counts of a file that could be made: a profile, a KV type, and the split that they allow."""

    profile: str
    bits: float
    """bits per weight of the type that most weights get (Q4_K: 4.5), which says what quality to expect"""
    file_bytes: int
    kv_type: str
    n_gpu_layers: int
    fits_whole: bool


def rank_key(candidate: Candidate, prefer: Prefer = Prefer.BALANCE) -> tuple[int, int, int, bool, int, bool]:
    """Return what candidates are sorted by, best first.

    Balance: the largest file that fits whole, if it has four bits or more; else Q4_K_M with its first layers on the
    CPU, before a smaller file. Speed: the largest file that fits whole, whatever its bits. Quality: the larger file,
    split or not. A 16-bit KV cache comes before a smaller one where both put as many layers on the GPU.
    """
    split, layers = not candidate.fits_whole, -candidate.n_gpu_layers
    # Where speed counts, a split's layers come before the size of its file.
    first = layers if prefer is Prefer.SPEED and split else 0
    return _tier(candidate, prefer), first, -candidate.file_bytes, split, layers, candidate.kv_type != "f16"


def _tier(candidate: Candidate, prefer: Prefer) -> int:
    whole = candidate.fits_whole
    if prefer is Prefer.QUALITY:
        return 0
    if prefer is Prefer.SPEED:
        return 0 if whole else 1
    if whole and candidate.bits >= FOUR_BITS:
        return 0
    if candidate.profile.upper() == SPLIT_PROFILE:
        return 1
    return 2 if whole else 3
