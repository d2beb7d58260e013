"""Merges of the older files, line by line."""

from toolkit.tokenizer.merges import read_merges_file


def test_only_a_first_line_that_begins_with_a_sharp_is_a_heading(tmp_path):
    file = tmp_path / "merges.txt"
    file.write_text("#version: 0.2\n# #\nh e\n", encoding="utf-8")
    assert read_merges_file(file) == (["# #", "h e"], ())
    file.write_text("h e\n# a\n", encoding="utf-8")
    assert read_merges_file(file) == (["h e", "# a"], ())
