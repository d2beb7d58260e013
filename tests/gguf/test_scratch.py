import fcntl
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from toolkit.gguf.scratch import MARK, ScratchFolder, sweep

KILLED = """
import os, signal, sys
from pathlib import Path
from toolkit.gguf.scratch import ScratchFolder

parent = None if sys.argv[1] == "None" else Path(sys.argv[1])
scratch = ScratchFolder(parent)
folder = scratch.path
(folder / "below").mkdir()
(folder / "below" / "logits").write_bytes(b"gigabytes")
print(folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_run(parent, **environment):
    """Return the folder that a run leaves which is killed at work."""
    command = [sys.executable, "-c", KILLED, str(parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return Path(done.stdout.strip())


def test_a_folder_is_gone_when_its_block_ends(tmp_path):
    with ScratchFolder(tmp_path) as folder:
        assert folder.parent == tmp_path
        assert folder.name.startswith(".gguf-toolkit-")
        (folder / "below").mkdir()
        (folder / "below" / "file").touch()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_nobody_closes_goes_with_its_last_reference(tmp_path):
    folder = ScratchFolder(tmp_path)
    assert list(tmp_path.iterdir()) == [folder.path]
    del folder
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["beside an output", "of the system"])
def test_the_folder_of_a_killed_run_is_swept_by_the_next(where, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = killed_run(tmp_path if where == "beside an output" else None, TMPDIR=str(tmp_path))
    assert (left / "below" / "logits").exists()
    assert left.parent == tmp_path
    with ScratchFolder(tmp_path if where == "beside an output" else None) as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_any_output_beside_it_sweeps_what_a_killed_run_left(tmp_path):
    killed_run(tmp_path)
    with ScratchFolder(output=tmp_path / "m.gguf") as folder:
        assert list(tmp_path.iterdir()) == [folder]


def test_the_folder_of_a_run_that_lives_stays_though_its_process_number_means_nothing_here(tmp_path):
    with ScratchFolder(tmp_path) as folder:
        elsewhere = folder.rename(tmp_path / f".gguf-toolkit-999999999-{'0' * 8}")
        sweep(tmp_path)
        assert (elsewhere / "mark").read_bytes().startswith(MARK)
        elsewhere.rename(folder)


@pytest.mark.parametrize("number", [1, 999999999])
def test_a_folder_whose_run_was_killed_before_it_marked_it_is_swept_and_another_stays(number, tmp_path):
    for index, content in enumerate((None, b"", b"a user's")):
        folder = tmp_path / f".gguf-toolkit-{number}-{index:08x}"
        folder.mkdir()
        if content is not None:
            (folder / "mark").write_bytes(content)
    sweep(tmp_path)
    left = {(path / "mark").read_bytes() if (path / "mark").exists() else None for path in tmp_path.iterdir()}
    # Process 1 lives everywhere: what it is about to mark is its own.
    assert left == ({b"a user's"} if number == 999999999 else {None, b"", b"a user's"})


def test_a_number_that_another_process_has_by_now_keeps_nothing(tmp_path):
    old, new = (tmp_path / f"gguf-toolkit-{os.getpid()}-0000000{number}" for number in range(2))
    for folder in (old, new):
        folder.mkdir()
    before_this_process = psutil.Process().create_time() - 60
    os.utime(old, (before_this_process, before_this_process))
    sweep(tmp_path)
    assert (old.exists(), new.exists()) == (False, True)


def test_names_that_are_nearly_ours_and_links_are_not_touched(tmp_path):
    users = tmp_path / "elsewhere"
    users.mkdir()
    (users / "mark").write_bytes(MARK)
    (tmp_path / ".gguf-toolkit-999999999-00000000").symlink_to(users)
    for name in ("gguf-toolkit-notes", ".gguf-toolkit-1-xyz", "gguf-toolkit-12-0123456789"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mark").write_bytes(MARK)
    before = sorted(tmp_path.rglob("*"))
    sweep(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_another_run_takes_for_a_leftover_while_it_is_made_is_made_anew(tmp_path, monkeypatch):
    lock, locked = fcntl.flock, []

    def stolen_once(fd, how):
        lock(fd, how)
        if not locked:
            (folder,) = tmp_path.iterdir()
            (folder / "mark").unlink()
            folder.rmdir()
        locked.append(fd)

    monkeypatch.setattr(fcntl, "flock", stolen_once)
    with ScratchFolder(tmp_path) as folder:
        assert len(locked) == 2
        assert (folder / "mark").read_bytes().startswith(MARK)


def test_every_folder_for_work_is_of_this_kind():
    made_otherwise = {
        path.as_posix()
        for path in Path("toolkit").rglob("*.py")
        if any(word in path.read_text(encoding="utf-8") for word in ("TemporaryDirectory", "mkdtemp", "mkstemp"))
    }
    assert made_otherwise == set()
