"""Files that change while they are read through a memory map: an error, not a signal and not a mixture."""

import ctypes
import os
import signal
import subprocess
import sys
import threading

import numpy
import pytest

from toolkit.errors import InputError
from toolkit.machine.mapped_files import as_mapped, as_now, check_not_cut_off, check_unchanged, map_file, unchanged

MIB = 1 << 20


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"\1" * (4 * MIB))
    return path


def copied_by_native_code(values):
    target = numpy.empty_like(values)
    ctypes.memmove(target.ctypes.data, values.ctypes.data, values.nbytes)
    return target


READS = {
    "numpy": lambda values: values.copy(),
    "a sum": lambda values: values.sum(dtype=numpy.float64),
    "bytes": lambda values: values.tobytes(),
    "native code without the interpreter's lock": copied_by_native_code,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("kept", [0, 1000, MIB])
def test_what_was_cut_off_reads_as_zeros_and_is_told_at_the_next_check(read, kept, file):
    values = numpy.frombuffer(map_file(file), numpy.uint8)
    os.truncate(file, kept)
    read(values)
    assert values[:kept].all()
    assert not values[max(kept, 1) + 4096 :].any()
    with pytest.raises(InputError, match=r"f was cut off while it was read"):
        check_not_cut_off()
    check_not_cut_off()
    with pytest.raises(InputError, match="cut off"):
        check_unchanged(as_mapped([file]))


def test_threads_that_read_together_all_go_on(file):
    values = numpy.frombuffer(map_file(file), numpy.uint8)
    os.truncate(file, 0)
    sums: list[int] = []
    threads = [threading.Thread(target=lambda: sums.append(int(values.sum()))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sums == [0] * 6
    with pytest.raises(InputError, match="cut off"):
        check_not_cut_off()


def test_what_is_written_over_is_told(file):
    view = map_file(file)
    files = as_mapped([file])
    check_unchanged(files)
    status = file.stat()
    with file.open("r+b") as writing:
        writing.write(b"\2")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.raises(InputError, match="f was modified while it was read"), unchanged(files):
        raise AssertionError
    view.close()
    map_file(file)
    check_unchanged(as_mapped([file]))


def test_a_few_bytes_less_are_told_though_no_page_is_missing(file):
    view = map_file(file)
    os.truncate(file, 4 * MIB - 1)
    assert view[-1] == 0
    with pytest.raises(InputError, match="cut off"):
        check_unchanged(as_mapped([file]))


def test_another_file_of_that_name_is_none_of_ours(file):
    view = map_file(file)
    file.rename(file.with_name("other"))
    check_unchanged(as_mapped([file]))
    file.write_bytes(b"2")
    check_unchanged(as_mapped([file]))
    assert view[0] == 1


def test_files_that_native_code_reads_are_watched_by_who_opened_them(file):
    files = as_now([file])
    check_unchanged(files)
    os.truncate(file, MIB)
    with pytest.raises(InputError, match="cut off"):
        check_unchanged(files)
    assert as_mapped([file]) == ()


def test_what_happens_while_it_is_read_is_told_at_the_end(file):
    map_file(file)
    with pytest.raises(InputError, match="cut off"), unchanged(as_mapped([file])):
        os.truncate(file, MIB)
    with pytest.raises(InputError, match="cut off"), unchanged(as_mapped([file])):
        raise OSError("bad address")


WRITABLE_MAP = """
import mmap, os, sys
from pathlib import Path
from toolkit.machine.mapped_files import map_file
map_file(Path(sys.argv[1]))
with open(sys.argv[1], "r+b") as file:
    view = mmap.mmap(file.fileno(), 0)
os.truncate(sys.argv[1], 1)
print(view[1 << 20])
"""


def test_a_fault_that_is_not_ours_ends_the_process_as_before(file):
    done = subprocess.run([sys.executable, "-c", WRITABLE_MAP, file], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGBUS, b"")
