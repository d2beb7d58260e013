from pathlib import Path

import pytest

from toolkit.gguf.shard_names import ShardName, parts_beside, shard_name, shard_path, whole_name


@pytest.mark.parametrize(
    ("name", "part", "whole"),
    [
        ("m.gguf", None, "m.gguf"),
        ("m-00002-of-00003.gguf", ShardName("m", 2, 3), "m.gguf"),
        ("m-00001-of-00002-00002-of-00003.gguf", ShardName("m-00001-of-00002", 2, 3), "m-00001-of-00002.gguf"),
        ("m-2-of-3.gguf", None, "m-2-of-3.gguf"),
        ("-00002-of-00003.gguf", None, "-00002-of-00003.gguf"),
    ],
)
def test_a_name_says_which_part_it_is(name, part, whole):
    assert shard_name(Path(name)) == part
    assert whole_name(Path("folder", name)) == whole
    if part is not None:
        assert part.file_name == name


def test_a_part_is_named_after_the_whole_or_after_another_part():
    expected = Path("folder", "m-00002-of-00012.gguf")
    assert (
        shard_path(Path("folder", "m.gguf"), 2, 12)
        == shard_path(Path("folder", "m-00001-of-00003.gguf"), 2, 12)
        == expected
    )


def test_the_files_of_a_source_are_those_that_its_name_says(tmp_path):
    names = ["m.gguf", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "n-00001-of-00002.gguf"]
    for name in names:
        (tmp_path / name).touch()
    assert parts_beside(tmp_path / "m.gguf") == (tmp_path / "m.gguf",)
    assert {path.name for path in parts_beside(tmp_path / names[1])} == set(names[1:3])
    assert {path.name for path in parts_beside(tmp_path)} == set(names)


def test_parts_of_another_count_are_another_set(tmp_path):
    names = [f"m-0000{number}-of-0000{count}.gguf" for count in (2, 3) for number in range(1, count + 1)]
    for name in names:
        (tmp_path / name).touch()
    assert {path.name for path in parts_beside(tmp_path / "m-00001-of-00002.gguf")} == set(names[:2])


def test_a_name_may_hold_a_newline():
    assert shard_name(Path("a\nb-00001-of-00002.gguf")) == ShardName("a\nb", 1, 2)
