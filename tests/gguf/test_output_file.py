import ctypes
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.errors import InputError, OutputError
from toolkit.gguf.output_file import MARK, check_output, publish, whole_or_absent


def work_files(folder):
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


def test_the_output_appears_only_when_it_is_whole(tmp_path):
    output = tmp_path / "m.gguf"
    with whole_or_absent(output, 10) as work:
        work.write(0, b"01234")
        assert not output.exists()
        work.write(5, b"56789")
    assert output.read_bytes() == b"0123456789"
    assert work_files(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_nothing(error, tmp_path):
    def fail():
        with whole_or_absent(tmp_path / "m.gguf", 1000) as work:
            work.write(0, b"GGUF")
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_kept_unless_forced(tmp_path):
    output = tmp_path / "m.gguf"
    output.write_bytes(b"old")
    with pytest.raises(InputError, match=r"m.gguf exists; give another name, or --force"):
        check_output(output, force=False)
    with whole_or_absent(output, 3, force=True) as work:
        work.write(0, b"new")
    assert output.read_bytes() == b"new"


def test_a_failed_run_keeps_the_file_that_it_was_to_replace(tmp_path):
    output = tmp_path / "m.gguf"
    output.write_bytes(b"old")

    def fail():
        with whole_or_absent(output, 3, force=True):
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    assert output.read_bytes() == b"old"


def test_places_that_cannot_be_written_are_refused_first(tmp_path):
    with pytest.raises(OutputError, match="does not exist; create it first"):
        check_output(tmp_path / "absent" / "m.gguf", force=False)
    with pytest.raises(InputError, match="is a directory"):
        check_output(tmp_path, force=True)
    with pytest.raises(InputError, match="the output's name has 300 bytes, more than the 255"):
        check_output(tmp_path / ("m" * 300), force=False)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_what_is_no_file_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "broken", "loop"):
        for force in (False, True):
            with pytest.raises(InputError, match=f"{name} is not a file but a device, a pipe or a broken link"):
                check_output(tmp_path / name, force=force)
    with pytest.raises(InputError, match="null is not a file"):
        check_output(Path(os.devnull), force=True)
    assert Path(os.devnull).is_char_device()


def test_a_name_of_the_greatest_length_works(tmp_path):
    output = tmp_path / ("é" * 122 + "x.gguf")
    with whole_or_absent(output, 1) as work:
        work.write(0, b"!")
    assert output.read_bytes() == b"!"


def test_a_users_file_under_a_work_files_name_is_not_touched(tmp_path):
    output = tmp_path / "m.gguf"
    with whole_or_absent(output, 1) as work:
        name = work.path.name
        work.write(0, b"!")
    (tmp_path / name).write_bytes(b"precious")
    with whole_or_absent(output, 1, force=True) as work:
        assert work.path.name != name
        work.write(0, b"!")
    assert (tmp_path / name).read_bytes() == b"precious"


def test_the_leftover_of_a_killed_run_is_removed_by_the_next(tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path; from toolkit.gguf.output_file import whole_or_absent\n"
        "with whole_or_absent(Path(sys.argv[1]), 100): os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "m.gguf")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(work_files(tmp_path)) == 1
    assert not (tmp_path / "m.gguf").exists()
    with whole_or_absent(tmp_path / "m.gguf", 2) as work:
        work.write(0, b"ok")
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def test_two_runs_for_one_output_do_not_mix(tmp_path):
    def second():
        with whole_or_absent(tmp_path / "m.gguf", 100):
            pass

    with whole_or_absent(tmp_path / "m.gguf", 100) as work:
        with pytest.raises(OutputError, match=f"process {os.getpid()} is writing m.gguf already"):
            second()
        work.write(0, b"ok")
    assert (tmp_path / "m.gguf").read_bytes().startswith(b"ok")


def test_a_work_file_is_never_mistaken_for_a_model(tmp_path):
    with whole_or_absent(tmp_path / "m.gguf", 100) as work:
        assert work.path.read_bytes().startswith(MARK)


def test_what_is_written_through_a_link_replaces_its_target_and_the_link_stays(tmp_path):
    disk = tmp_path / "large disk"
    disk.mkdir()
    (disk / "real.gguf").write_bytes(b"old")
    link = tmp_path / "m.gguf"
    link.symlink_to(disk / "real.gguf")
    with pytest.raises(InputError, match=r"m\.gguf exists"):
        check_output(link, force=False)
    with whole_or_absent(link, 3, force=True) as work:
        assert work.path.is_relative_to(disk), "the work file lies on another disk than its target"
        work.write(0, b"new")
    assert (disk / "real.gguf").read_bytes() == b"new"
    assert link.readlink() == disk / "real.gguf"
    assert sorted(path.name for path in (*tmp_path.iterdir(), *disk.iterdir())) == ["large disk", "m.gguf", "real.gguf"]


def test_another_name_of_a_replaced_file_keeps_what_it_had(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"old")
    (tmp_path / "kept.gguf").hardlink_to(tmp_path / "m.gguf")
    with whole_or_absent(tmp_path / "m.gguf", 3, force=True) as work:
        work.write(0, b"new")
    assert [(tmp_path / name).read_bytes() for name in ("m.gguf", "kept.gguf")] == [b"new", b"old"]


@pytest.mark.parametrize(
    ("number", "needed", "message"),
    [
        (
            errno.EDQUOT,
            1000,
            r"needs 1000 B, more than your quota leaves in .*; remove files there, or write elsewhere$",
        ),
        (errno.ENOSPC, 1000, r"needs 1000 B; .* are free in .*, but a quota or a limit of files is reached$"),
        (errno.ENOSPC, 1 << 60, r"needs 1048576\.00 TiB, .* are free there$"),
    ],
)
def test_a_quota_is_not_taken_for_a_full_disk(number, needed, message, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)

    def write():
        with whole_or_absent(tmp_path / "m.gguf", needed):
            pass

    with pytest.raises(OutputError, match=message):
        write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ways", ["everything", "links", "neither"])
def test_a_name_that_is_taken_at_the_last_moment_is_not_replaced(ways, tmp_path, monkeypatch):
    def without_links(*_, **__):
        raise OSError(errno.EPERM, "no links here")

    if ways != "everything":
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    if ways == "neither":
        monkeypatch.setattr(os, "link", without_links)
    (tmp_path / "work").write_bytes(b"ours")
    (tmp_path / "taken").write_bytes(b"precious")
    with pytest.raises(InputError, match=r"taken appeared while it was being written; give --force to replace it"):
        publish(tmp_path / "work", tmp_path / "taken", force=False)
    assert (tmp_path / "taken").read_bytes() == b"precious"
    publish(tmp_path / "work", tmp_path / "free", force=False)
    assert (tmp_path / "free").read_bytes() == b"ours"
    assert not (tmp_path / "work").exists()
