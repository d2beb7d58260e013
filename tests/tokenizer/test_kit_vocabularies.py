import pytest
from tokenizer.kit_vocabularies import SOURCES, kit_request, tokenizer_differences

from toolkit.tokenizer import read_tokenizer

# The reference drops a list of EOS ids; the first of them is better than llama.cpp's default, which is BOS here.
BETTER_THAN_REFERENCE = {
    "gemma3_multimodal": ["metadata tokenizer.ggml.eos_token_id: extra, {'type': 'UINT32', 'value': 1}"]
}
CASES = sorted(path.name for path in SOURCES.iterdir())


@pytest.mark.parametrize("case", CASES)
def test_vocabulary_equals_the_reference_converters(case: str) -> None:
    tokenizer = read_tokenizer(kit_request(case))

    assert tokenizer_differences(case, tokenizer.metadata) == BETTER_THAN_REFERENCE.get(case, [])


def test_kit_has_all_its_cases() -> None:
    assert len(CASES) == 79
