"""Tables of plain text."""

from toolkit.render.tables import table_lines


def test_columns_are_aligned_and_end_with_their_text():
    lines = table_lines(("name", "size"), [("a", "5"), ("longer", "1,234")], right=(1,))
    assert lines == ["name     size", "a           5", "longer  1,234"]
    assert table_lines(("name", "note"), [("a", "")]) == ["name  note", "a"]


def test_a_name_cannot_steer_the_terminal_from_a_cell():
    lines = table_lines(("name",), [("\x1b[31mred\nline",)])
    assert len(lines) == 2
    assert "\x1b" not in lines[1]
    assert "\n" not in lines[1]


def test_a_table_without_rows_is_its_header():
    assert table_lines(("name", "size"), []) == ["name  size"]
