from toolkit.verification.check import listed


def test_three_names_are_shown_and_the_others_counted():
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
