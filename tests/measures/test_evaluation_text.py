import hashlib
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from toolkit.errors import TextError
from toolkit.measures.evaluation_text import named_text, read_text


def test_the_default_text_is_the_last_fifth_of_pythons_topics() -> None:
    found, names = read_text(), sorted(topics)
    held_out = names[int(0.8 * len(names)) :]
    assert found.text == "\n\n".join(topics[name] for name in held_out)
    assert found.sha256 == hashlib.sha256(found.text.encode()).hexdigest()
    assert "pydoc_data.topics" in found.name


def test_a_file_is_read_as_utf_8_whatever_its_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "žluť.txt"
    file.write_bytes(b"\xef\xbb\xbf" + "kůň\r\n".encode())
    assert (read_text(file).text, read_text(file).name) == ("kůň\r\n", "žluť.txt")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b" \n\t ", "is empty"),
        (b"caf\xe9", r"is not UTF-8 text \(byte 3\)"),
        (b"GGUF\x03\x00\x00\x00", "is binary"),
        ("text".encode("utf-16"), "is not UTF-8"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(data)
    with pytest.raises(TextError, match=message):
        read_text(file)


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"none\.txt cannot be read \(No such file"):
        read_text(tmp_path / "none.txt")
    with pytest.raises(TextError, match="cannot be read"):
        read_text(tmp_path)


def test_demo_is_the_name_of_the_default_text_unless_a_file_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert named_text("demo") == read_text()
    (tmp_path / "demo").write_text("mine", encoding="utf-8")
    assert named_text("demo").text == "mine"
