import pytest

from toolkit.differences import first_difference


@pytest.mark.parametrize(
    ("one", "other", "at"),
    [("same", "same", None), ("same", "sane", 2), ([1, 2], [1, 2, 3], 2), (b"", b"x", 0), ((), (), None)],
)
def test_sequences_part_where_they_differ_or_where_the_shorter_ends(one, other, at):
    assert first_difference(one, other) == first_difference(other, one) == at
