import pytest
from tokenizer.kit_vocabularies import SOURCES, kit_request, tokenizer_differences

from toolkit.errors import TokenizerError
from toolkit.tokenizer import read_tokenizer

# WordPiece (bert, nomic_bert) and Unigram (t5, xlm_roberta) vocabularies are not supported yet.
NOT_SUPPORTED = {"bert", "nomic_bert", "t5", "xlm_roberta"}

# The reference drops a list of EOS ids; the first of them is better than llama.cpp's default, which is BOS here.
BETTER_THAN_REFERENCE = {
    "gemma3_multimodal": ["metadata tokenizer.ggml.eos_token_id: extra, {'type': 'UINT32', 'value': 1}"]
}
CASES = sorted(path.name for path in SOURCES.iterdir())


@pytest.mark.parametrize("case", [case for case in CASES if case not in NOT_SUPPORTED])
def test_vocabulary_equals_the_reference_converters(case: str) -> None:
    tokenizer = read_tokenizer(kit_request(case))

    assert tokenizer_differences(case, tokenizer.metadata) == BETTER_THAN_REFERENCE.get(case, [])


@pytest.mark.parametrize("case", sorted(NOT_SUPPORTED))
def test_vocabulary_of_another_kind_is_refused(case: str) -> None:
    with pytest.raises(TokenizerError, match="not supported"):
        read_tokenizer(kit_request(case))


def test_kit_has_the_cases_that_are_left_out() -> None:
    assert set(CASES) >= NOT_SUPPORTED
    assert len(CASES) == 79
