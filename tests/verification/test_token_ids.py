from toolkit.verification.token_ids import Difference


def test_a_text_that_only_goes_on_differs_from_its_end_on():
    assert Difference("text", [1, 2], [1, 2, 3]).describe() == "in 'text' from token 2 on: 3 instead of nothing"
