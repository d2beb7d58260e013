"""What can be planned of a model that is not converted yet: the files that it could become."""

import math
from typing import TYPE_CHECKING

from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.gguf.format import EMBEDDING
from toolkit.memory.plannable import PlannableModel, PlannedFile
from toolkit.model_source import ModelSource
from toolkit.quant_profile import QuantProfile, load_profile

if TYPE_CHECKING:
    from toolkit.importance.matrix import Imatrix

KEEP = "KEEP"
LEAST_SHARE = 0.97
"""A profile may store some tensors with fewer bits than most get, but never so many that less than this share is left."""


def model_from_source(
    source: ModelSource,
    profiles: tuple[str, ...],
    imatrix: "Imatrix | None" = None,
    *,
    estimated_file_bytes: bool = False,
) -> PlannableModel:
    """Return a model that is not converted yet, in any of these profiles."""

    def make(name: str) -> PlannedFile:
        profile: QuantProfile = load_profile(name)
        plan = plan_conversion(source, profile, imatrix)
        return PlannedFile(profile.name, plan.typical_bits, plan.file_bytes, plan.metadata, plan.tensors, plan)

    weights = sum(math.prod(tensor.shape) for tensor in source.tensors if tensor.name != EMBEDDING)

    def least_bytes(name: str) -> int:
        profile = load_profile(name)
        if profile.keep:  # its types are those of the source, and not to be told from the profile
            return 0
        return round(weights * profile.default.bits_per_weight / 8 * LEAST_SHARE)

    return PlannableModel(source.name, source.metadata, profiles, make, least_bytes, None, estimated_file_bytes)


def profiles_worth_planning(source: ModelSource, ladder: tuple[str, ...]) -> tuple[str, ...]:
    """Return the ladder; of a source that is quantized on a grid of GGUF, that grid and what is smaller.

    More bits than it has cannot make such a model better.
    """
    if source.quantization is None:
        return ladder
    kept = plan_conversion(source, load_profile(KEEP))
    if all(tensor.worst_difference is None for tensor in kept.tensors):
        return ladder
    smaller = (name for name in ladder if plan_conversion(source, load_profile(name)).file_bytes < kept.file_bytes)
    return (KEEP, *smaller)
