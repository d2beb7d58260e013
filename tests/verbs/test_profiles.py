"""`toolkit.profiles` and `toolkit.show_profile`, as a Python user calls them."""

from pathlib import Path

import pytest

import toolkit
from toolkit.errors import InputError, ProfileError

MINE = 'name = "mine"\nfile_type = "MOSTLY_Q4_K_M"\ndefault = "Q4_K"\n[[rules]]\nrole = "output"\ntype = "Q6_K"\n'


def test_profiles_are_listed_from_small_to_large() -> None:
    previews = toolkit.profiles().previews
    bits = [preview.bits_per_weight for preview in previews]
    assert bits == sorted(bits)
    assert "Q4_K_M" in [preview.profile.name for preview in previews]


def test_a_profile_is_shown_by_its_name_or_from_any_file(tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.write_text(MINE, "utf-8")
    result = toolkit.show_profile(file, model="llama-3.1-8b")
    assert (result.profile.name, result.preview.types["output.weight"].type.name) == ("mine", "Q6_K")
    assert toolkit.show_profile("q4_k_m").profile.name == "Q4_K_M"


def test_an_importance_matrix_is_assumed_where_the_profile_needs_one() -> None:
    assert toolkit.show_profile("iq2_xs").preview.has_imatrix
    assert not toolkit.show_profile("q4_0").preview.has_imatrix
    assert toolkit.show_profile("q4_0", imatrix=True).preview.has_imatrix


def test_a_name_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ProfileError, match="there is no profile 'q4_k_x'"):
        toolkit.show_profile("q4_k_x")
    with pytest.raises(InputError, match="the model 'llama-9' is unknown; known: llama-2-7b"):
        toolkit.show_profile("q4_k_m", model="llama-9")
