"""`profiles`: the profiles that come with the toolkit."""

from dataclasses import dataclass

from toolkit.quant_profile import ProfilePreview, load_profile, preview_profile, profile_names
from toolkit.reporter import Reporter
from toolkit.verbs.verb import verb


@dataclass(frozen=True)
class ProfilesRequest:
    """Nothing to choose."""


@dataclass(frozen=True)
class ProfilesResult:
    """Each profile with what it makes of a Llama with 7 billion weights, smallest first."""

    previews: tuple[ProfilePreview, ...]


@verb(ProfilesRequest)
def profiles(_request: ProfilesRequest, _reporter: Reporter) -> ProfilesResult:
    """List the profiles that come with the toolkit.

    ```python
    for preview in toolkit.profiles().previews:
        print(preview.profile.name, preview.bits_per_weight, preview.profile.summary)
    ```

    Raises ProfileError if an installed file is damaged.
    """
    previews = [preview_profile(load_profile(name)) for name in profile_names()]
    return ProfilesResult(tuple(sorted(previews, key=lambda preview: preview.bits_per_weight)))
