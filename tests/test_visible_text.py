import json

import pytest

from toolkit.visible_text import steers, visible, visible_json

STEERING = [
    "\x00",
    "\a",
    "\b",
    "\n",
    "\r",
    "\t",
    "\x1b",
    "\x7f",
    "\x85",
    "\x9b",
    "\u200f",
    "\u2028",
    "\u202e",
    "\u2066",
    "\udcff",
]


@pytest.mark.parametrize("character", STEERING)
def test_what_steers_a_terminal_or_a_line_is_written_as_an_escape(character):
    assert steers(f"a{character}b")
    shown = visible(f"a{character}b")
    assert shown == f"a{ascii(character)[1:-1]}b"
    assert not steers(shown)


@pytest.mark.parametrize(
    "text", ["", "blk.0.attn_q.weight", "Zürich 模型", "👩‍👩‍👧 ☔️", "نص", "a\\nb", "\N{NO-BREAK SPACE}"]
)
def test_any_other_text_stays_as_it_is(text):
    assert not steers(text)
    assert visible(text) == text


def test_layout_stays_where_it_is_meant():
    assert visible("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"


@pytest.mark.parametrize("character", STEERING)
def test_a_document_says_the_same_with_escapes(character):
    document = json.dumps({"name": f"a{character}b"}, ensure_ascii=False, indent=2)
    shown = visible_json(document)
    assert json.loads(shown) == {"name": f"a{character}b"}
    assert not steers(shown.replace("\n", ""))
