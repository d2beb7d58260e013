"""Every setting of a tokenizer's files, wrong in turn: read, or refused in words."""

import json
from pathlib import Path

import pytest
from odd_values import places, with_value
from tokenizer.kit_vocabularies import copied, kit_request

from toolkit.errors import ToolkitError
from toolkit.tokenizer import read_tokenizer

WRONG = ([], {"x": 1}, -1)
VOCABULARY = (("model", "vocab"), ("model", "merges"))
"""whose entries are tried by tests of their own"""


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("case", ["llama3", "bert"])
def test_a_value_of_any_kind_is_refused_in_words_or_read(case: str, name: str, tmp_path: Path) -> None:
    file = copied(case, tmp_path) / name
    content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"eos_token_id": [1, 2]}
    tried = 0
    for place in places(content, closed=VOCABULARY):
        for value in WRONG:
            file.write_text(json.dumps(with_value(content, place, value)), encoding="utf-8")
            try:
                read_tokenizer(kit_request(case, file.parent))
            except ToolkitError as error:
                assert "\n" not in str(error)  # noqa: PT017  most values are read
            tried += 1
    assert tried >= len(WRONG)
