"""`toolkit.run`, as a Python user calls it."""

import pytest

import toolkit
from toolkit.errors import InputError


def test_the_answer_is_what_came_piece_by_piece(tiny):
    pieces = []
    result = toolkit.run(tiny, "Why is the sky blue?", n_tokens=5, n_ctx_seq=128, on_text=pieces.append)
    assert result.answer == "".join(pieces) != ""
    assert result.stats.generated_tokens <= 5


def test_the_same_seed_gives_the_same_answer(tiny):
    options = {"n_tokens": 8, "temperature": 1.0, "n_ctx_seq": 128}
    first, again = (toolkit.run(tiny, "of the", seed=3, **options).answer for _ in range(2))
    assert first == again


def test_a_file_without_a_chat_template_says_so_to_the_reporter(tiny, heard):
    toolkit.run(toolkit.RunRequest(tiny, "of the", n_tokens=1, n_ctx_seq=64), heard)
    assert any("no chat template" in message for message in heard.notes)


def test_prompts_that_cannot_be_answered_are_input_errors(tiny):
    with pytest.raises(InputError, match="prompt is empty"):
        toolkit.run(tiny, "")
    with pytest.raises(InputError, match="takes no --system message"):
        toolkit.run(tiny, "of the", system="Be brief.")
    with pytest.raises(InputError, match="which --raw leaves out"):
        toolkit.run(tiny, "of the", system="Be brief.", raw=True)
