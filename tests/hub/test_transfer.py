"""Parts of files, from servers that give them and from those that send the whole file all the same."""

import os
import random
import subprocess
import sys

import pytest
from hub_server import Hub, serve

READ = """
import sys
from toolkit.hub.transfer import read_range
start, stop = map(int, sys.argv[1:])
sys.stdout.buffer.write(read_range("some/model", "weights.bin", "main", start, stop))
"""
FETCH = """
import sys
from toolkit.hub.blobs import fetch_blob
from toolkit.reporter import SILENT_TASK
fetch_blob("some/model", "weights.bin", "main", SILENT_TASK)
"""
COUNT = """
from toolkit.hub.blobs import fetch_blob

class CountedTask(list):
    advance = list.append

task = CountedTask()
fetch_blob("some/model", "weights.bin", "main", task)
print(sum(task))
"""


@pytest.fixture
def file(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "weights.bin"
    path.write_bytes(random.Random(3).randbytes(9 << 20))
    return path


def run(hub, cache, program, *words):
    environment = os.environ | hub.environment | {"HF_HOME": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.parametrize("ignores_ranges", [False, True])
@pytest.mark.parametrize(("start", "stop"), [(0, 100), (200_000, 330_000), ((9 << 20) - 10, (9 << 20) + 10)])
def test_the_bytes_are_those_that_were_asked_for_whatever_the_server_sends(file, tmp_path, start, stop, ignores_ranges):
    with serve(Hub({"some/model": file.parent}, ignores_ranges=ignores_ranges)) as hub:
        assert run(hub, tmp_path / "cache", READ, start, stop) == file.read_bytes()[start:stop]


def test_a_transfer_goes_on_from_a_server_that_begins_anew(file, tmp_path):
    hub = Hub({"some/model": file.parent}, cut_after={file.name: 1 << 20}, ignores_ranges=True)
    with serve(hub):
        run(hub, tmp_path / "cache", FETCH)
    (blob,) = (tmp_path / "cache").rglob("blobs/*")
    assert blob.read_bytes() == file.read_bytes()
    assert [start for _, start in hub.starts] == [0, 0]


@pytest.mark.parametrize("ignores_ranges", [False, True])
def test_the_progress_of_a_transfer_that_went_on_is_the_size_of_the_file(file, tmp_path, ignores_ranges):
    hub = Hub({"some/model": file.parent}, cut_after={file.name: 5 << 20}, ignores_ranges=ignores_ranges)
    with serve(hub):
        assert int(run(hub, tmp_path / "cache", COUNT)) == file.stat().st_size
    assert len(hub.starts) == 2
