"""`show_profile`: the rules of a profile, and the types that they give to a well-known model."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from toolkit.errors import InputError
from toolkit.quant_profile import (
    EXAMPLE_MODELS,
    TYPICAL_MODEL,
    ProfilePreview,
    QuantProfile,
    load_profile,
    preview_profile,
    read_profile,
)
from toolkit.reporter import Reporter
from toolkit.verbs.verb import verb


@dataclass(frozen=True)
class ShowProfileRequest:
    """A profile, and the model that it is applied to."""

    profile: Path | str
    """name of a profile that comes with the toolkit, or a TOML file"""
    _: KW_ONLY
    model: str = TYPICAL_MODEL
    """name of a well-known model"""
    imatrix: bool | None = None
    """types with or without an importance matrix; None is with one if the profile needs it"""


@dataclass(frozen=True)
class ShowProfileResult:
    """A profile, and what it makes of a model."""

    model: str
    preview: ProfilePreview

    @property
    def profile(self) -> QuantProfile:
        """Return the profile."""
        return self.preview.profile


@verb(ShowProfileRequest)
def show_profile(request: ShowProfileRequest, _reporter: Reporter) -> ShowProfileResult:
    """Read a profile, check it, and apply it to a model.

    ```python
    result = toolkit.show_profile("q4_k_m", model="llama-3.1-8b")
    print(result.preview.types["output.weight"].type.name)
    ```

    Raises ProfileError, with the line, if the file is not understood; InputError for an unknown model.
    """
    if request.model not in EXAMPLE_MODELS:
        raise InputError(f"the model {request.model!r} is unknown; known: {', '.join(EXAMPLE_MODELS)}")
    read = read_profile if isinstance(request.profile, Path) else load_profile
    profile = read(request.profile)  # type: ignore[arg-type]  # each takes what it was chosen for
    return ShowProfileResult(request.model, preview_profile(profile, request.model, has_imatrix=request.imatrix))
