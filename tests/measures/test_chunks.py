import pytest

from toolkit.errors import TextError
from toolkit.measures.chunks import cut_chunks, strided_chunk


@pytest.mark.parametrize(
    ("count", "n_ctx", "message"),
    [
        (300, 512, r"has 300 tokens, but chunks of 512 need 1,024 \(two chunks\); the largest usable chunk is 150"),
        (1, 512, "has 1 tokens.*give a longer text"),
        (0, 512, "has 0 tokens"),
        (100, 2, "too short to score"),
    ],
)
def test_a_text_that_is_too_short_says_what_would_do(count: int, n_ctx: int, message: str) -> None:
    with pytest.raises(TextError, match=message):
        cut_chunks([1] * count, n_ctx)


def test_a_strided_chunk_is_as_long_as_llama_perplexity_makes_it() -> None:
    assert [strided_chunk(*case) for case in ((512, 256), (128, 64), (256, 100), (1024, 512))] == [768, 256, 512, 1280]


@pytest.mark.parametrize("stride", [0, 32, 50])
def test_a_stride_that_leaves_gaps_is_refused(stride: int) -> None:
    with pytest.raises(TextError, match=f"a stride of {stride} does not fit in a chunk of 32"):
        cut_chunks([1] * 100, 32, None, stride)
