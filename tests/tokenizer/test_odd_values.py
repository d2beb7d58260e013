"""Every setting of a tokenizer's files, wrong in turn: read, or refused in words."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizer.kit_vocabularies import copied, kit_request

from toolkit.errors import ToolkitError
from toolkit.tokenizer import read_tokenizer

WRONG = ("x", [], {"x": 1}, -1)
VOCABULARY = (("model", "vocab"), ("model", "merges"))
"""whose entries are tried by tests of their own"""


def places(content: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in entries:
        yield (*before, key)
        if (*before, key) not in VOCABULARY:
            yield from places(value, (*before, key))


def with_value(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    changed = dict(content) if isinstance(content, dict) else list(content)
    changed[place[0]] = with_value(content[place[0]], place[1:], value)
    return changed


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("case", ["llama3", "bert"])
def test_a_value_of_any_kind_is_refused_in_words_or_read(case: str, name: str, tmp_path: Path) -> None:
    file = copied(case, tmp_path) / name
    content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"eos_token_id": [1, 2]}
    tried = 0
    for place in places(content):
        for value in WRONG:
            file.write_text(json.dumps(with_value(content, place, value)), encoding="utf-8")
            try:
                read_tokenizer(kit_request(case, file.parent))
            except ToolkitError as error:
                assert "\n" not in str(error)  # noqa: PT017  most values are read
            tried += 1
    assert tried >= len(WRONG)
