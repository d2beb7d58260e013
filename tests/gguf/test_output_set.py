import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.errors import GgufError, InputError
from toolkit.gguf.format import string, uint32
from toolkit.gguf.layout import lay_out
from toolkit.gguf.output_set import all_or_none
from toolkit.gguf.reader import read_gguf

PROGRAM = Path(__file__).with_name("killed_at_every_step.py")
posix = pytest.mark.skipif(os.name != "posix", reason="kills are signals of POSIX")


def kills(*arguments, folder):
    """Return what the program found after every kill."""
    environment = os.environ | {"PYTHONPATH": str(Path.cwd()), "TMPDIR": str(folder)}
    command = [sys.executable, PROGRAM, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return [json.loads(line) for line in done.stdout.splitlines()]


@posix
@pytest.mark.parametrize("ways", ["everything", "no renameat", "no links"])
@pytest.mark.parametrize("count", [1, 3])
def test_a_kill_at_any_step_leaves_all_or_nothing_to_the_next_run(count, ways, tmp_path):
    found = kills(count, "fresh", ways, folder=tmp_path)
    assert len(found) > 8
    new, nothing = ["new"] * count, [""] * count
    for kill in found:
        left, whole = kill["left"], kill["left"] == new
        assert whole or left[0] != "new", "the first part stands for a set that is not there"
        assert kill["swept"] in (None, [new if whole else nothing, []])
        assert kill["again"] == [new, []]
        assert ("exists; give another name, or --force" in kill["refused"]) == whole
    assert {"".join(kill["left"]) for kill in found} >= {"", "new" * count}


@posix
def test_a_kill_at_any_step_of_a_replacement_leaves_the_old_set_or_the_new_one(tmp_path):
    found = kills(3, "replacing", "everything", folder=tmp_path)
    assert any(kill["left"][2] == "new" != kill["left"][0] for kill in found), "no kill between two names"
    for kill in found:
        left = kill["left"]
        assert not left[0] or left == [left[0]] * 3, "a mixture that looks like a set"
        assert kill["swept"] in (None, [["new" if left == ["new"] * 3 else "old"] * 3, []])
        assert (kill["again"], kill["refused"]) == ([["new"] * 3, []], "")


def part(number):
    keys = {"general.architecture": string("llama"), "split.no": uint32(number), "split.count": uint32(3)}
    return lay_out({**keys, "split.tensors.count": uint32(0)}, []).header


def test_a_set_without_the_file_that_seals_it_is_refused_in_a_line(tmp_path):
    for number in (1, 2):
        (tmp_path / f"m-0000{number + 1}-of-00003.gguf").write_bytes(part(number))
    with pytest.raises(GgufError, match=r"all 3 parts are needed; missing beside it: m-00001-of-00003\.gguf") as found:
        read_gguf(tmp_path / "m-00002-of-00003.gguf")
    assert "\n" not in str(found.value)
    with pytest.raises(GgufError, match=r"m-00001-of-00003\.gguf: no such file"):
        read_gguf(tmp_path / "m-00001-of-00003.gguf")


def test_a_user_s_file_that_took_a_name_after_a_kill_stays(tmp_path):
    left = tmp_path / ".gguf-00000000-999999999-0.part"
    left.mkdir()
    (left / "mark").write_bytes(b"gguf-toolkit work file of process 999999999\n")
    mine = tmp_path / "m-00002-of-00002.gguf"
    mine.write_bytes(b"precious")
    status = mine.stat()
    entry = {"name": mine.name, "inode": status.st_ino, "bytes": status.st_size, "changed_ns": status.st_mtime_ns - 1}
    seal = {"name": "m-00001-of-00002.gguf", "inode": 1, "bytes": 1, "changed_ns": 1}
    (left / "journal").write_text(json.dumps([entry, seal]), encoding="utf-8")
    with all_or_none([(tmp_path / "n-00001-of-00001.gguf", 3)]) as works:
        works[0].write(0, b"new")
    assert mine.read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == [mine.name, "n-00001-of-00001.gguf"]


def test_files_of_a_set_are_not_written_through_links(tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"old")
    (tmp_path / "m-00002-of-00002.gguf").symlink_to("elsewhere")

    def replace():
        with all_or_none([(tmp_path / f"m-0000{number}-of-00002.gguf", 3) for number in (1, 2)], force=True):
            pass

    with pytest.raises(InputError, match=r"m-00002-of-00002\.gguf is a link, and the files of a set lie in one folder"):
        replace()
    assert (tmp_path / "elsewhere").read_bytes() == b"old"
