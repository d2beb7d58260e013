"""The pipeline: sizes known beforehand, bytes that do not depend on threads, outputs whole or absent."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from sparse_file import write_without_weights

from toolkit.conversion.convert import ConversionOptions, row_ranges, write_gguf
from toolkit.conversion.tensor_plan import ConversionPlan, TensorPlan, plan_conversion
from toolkit.demo import demo_checkpoint
from toolkit.errors import InputError, OutputError, TensorError
from toolkit.gguf.format import MAGIC
from toolkit.gguf.ggml_types import F32
from toolkit.gguf.layout import lay_out
from toolkit.gguf.output_file import whole_or_absent
from toolkit.gguf.reader import read_gguf
from toolkit.gguf.rows import StoredRows
from toolkit.importance.matrix import Imatrix
from toolkit.llama import quantizer
from toolkit.quant_profile import load_profile, profile_names
from toolkit.sources.hf_source import source_from_checkpoint

SLOW_TO_PREPARE = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S")
"""Their tables take ggml half a minute; that their sizes are right shows in the header alone."""

FAST = ("Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS")


@pytest.fixture(scope="module")
def sources(kit_checkpoint):
    return {case: source_from_checkpoint(kit_checkpoint(case)) for case in ("llama3", "qwen3")}


def even_imatrix(source):
    """Return an importance matrix for which every column matters as much, so that every profile can be used."""
    shapes = {tensor.name: tensor.shape for tensor in source.tensors if len(tensor.shape) > 1}
    return Imatrix(Path("even"), {name: numpy.ones(shape[-1], numpy.float32) for name, shape in shapes.items()}, 1)


@pytest.mark.parametrize("case", ["llama3", "qwen3"])
def test_the_predicted_size_is_the_written_size_for_every_profile(case, sources, tmp_path):
    imatrix = even_imatrix(sources[case])
    for name in profile_names():
        plan = plan_conversion(sources[case], load_profile(name), imatrix)
        output = tmp_path / f"{name}.gguf"
        write = write_without_weights if any(t.type.name in SLOW_TO_PREPARE for t in plan.tensors) else write_gguf
        write(plan, output)
        assert output.stat().st_size == plan.file_bytes, name
        assert sum(t.n_bytes for t in plan.tensors) == sum(t.data.nbytes for t in read_gguf(output).tensors.values())
        output.unlink()


@pytest.mark.parametrize("profile", ["bf16", "q4_k_m", "q8_0"])
def test_the_number_of_threads_does_not_change_a_byte(profile, sources, tmp_path, monkeypatch):
    monkeypatch.setattr("toolkit.conversion.convert.WEIGHTS_PER_RANGE", 4096)
    plan = plan_conversion(sources["llama3"], load_profile(profile))
    written = []
    for threads in (1, 2, 7):
        write_gguf(plan, tmp_path / f"{threads}.gguf", ConversionOptions(threads=threads))
        written.append((tmp_path / f"{threads}.gguf").read_bytes())
    assert written[0] == written[1] == written[2]


def test_the_size_of_a_block_does_not_change_a_byte(sources, tmp_path, monkeypatch):
    plan = plan_conversion(sources["llama3"], load_profile("q4_k_m"))
    write_gguf(plan, tmp_path / "large.gguf")
    monkeypatch.setattr("toolkit.conversion.convert.WEIGHTS_PER_RANGE", 1)
    write_gguf(plan, tmp_path / "small.gguf")
    assert (tmp_path / "large.gguf").read_bytes() == (tmp_path / "small.gguf").read_bytes()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("profile", ["q4_k_m", "q5_k_m", "iq4_xs"])
def test_kernels_do_not_change_a_byte(profile, weighted, tmp_path, monkeypatch):
    source = source_from_checkpoint(demo_checkpoint())
    plan = plan_conversion(source, load_profile(profile), even_imatrix(source) if weighted else None)
    monkeypatch.setattr(quantizer, "_kernels", {})
    write_gguf(plan, tmp_path / "ggml.gguf")
    assert quantizer._kernels == {}
    monkeypatch.setattr(quantizer, "worth_loading", lambda type_, _n_weights: type_.name in FAST)
    write_gguf(plan, tmp_path / "kernels.gguf")
    assert None not in quantizer._kernels.values()
    assert {type_.name for type_ in quantizer._kernels} == {tensor.type.name for tensor in plan.tensors} & set(FAST)
    assert (tmp_path / "kernels.gguf").read_bytes() == (tmp_path / "ggml.gguf").read_bytes()


def test_a_block_of_rows_never_crosses_the_border_between_experts():
    rows = StoredRows((3, 5, 64), F32, numpy.zeros(3 * 5 * 64 * 4, dtype=numpy.uint8))
    plan = TensorPlan("blk.0.ffn_up_exps.weight", rows.shape, F32, rows)
    blocks = list(row_ranges((plan,), lay_out({}, (plan,))))
    assert [(block.start, block.stop) for block in blocks] == [(0, 5), (5, 10), (10, 15)]


def test_the_progress_adds_up_to_the_bytes_of_the_tensors(sources, tmp_path):
    plan, seen = plan_conversion(sources["llama3"], load_profile("q4_0")), []
    write_gguf(plan, tmp_path / "m.gguf", ConversionOptions(progress=seen.append))
    assert sum(seen) == sum(tensor.n_bytes for tensor in plan.tensors)


def test_a_file_that_the_check_refuses_does_not_get_its_name(sources, tmp_path):
    def refuse(path, plan):
        assert path.stat().st_size == plan.file_bytes
        assert path.read_bytes().startswith(MAGIC)
        raise TensorError("no")

    with pytest.raises(TensorError, match="no"):
        write_gguf(
            plan_conversion(sources["llama3"], load_profile("q4_0")),
            tmp_path / "m.gguf",
            ConversionOptions(check=refuse),
        )
    assert list(tmp_path.iterdir()) == []


def test_a_tensor_beyond_4_gib_is_written_at_its_place_and_read_back(tmp_path):
    """The file is sparse: a skeleton of a large tensor, and the rows of a small one after it."""
    zeros = StoredRows((5 << 18, 1024), F32, numpy.zeros(0, dtype=numpy.uint8))
    numbers = numpy.arange(1024, dtype="<f4")
    small = StoredRows((1, 1024), F32, numbers.view(numpy.uint8))
    plans = (TensorPlan("large.weight", zeros.shape, F32, zeros), TensorPlan("small.weight", small.shape, F32, small))
    layout = lay_out({}, plans)
    write_without_weights(ConversionPlan(load_profile("f32"), {}, plans, layout), tmp_path / "m.gguf")
    block = next(iter(row_ranges(plans[1:], lay_out({}, plans[1:]))))
    assert layout.offsets[1] > 5 << 30
    with (tmp_path / "m.gguf").open("r+b") as file:
        file.seek(layout.offsets[1])
        file.write(small.read_rows(block.start, block.stop).tobytes())
    stored = read_gguf(tmp_path / "m.gguf").tensors["small.weight"].read_rows(0, 1)
    assert numpy.array_equal(stored.copy().view("<f4")[0], numbers)


def test_a_work_file_writes_beyond_4_gib(tmp_path):
    if shutil.disk_usage(tmp_path).free < 6 << 30:
        pytest.fail("this test needs 6 GiB of free disk space for a moment")
    with whole_or_absent(tmp_path / "m.gguf", (5 << 30) + 4) as work:
        work.write(5 << 30, b"last")
    with (tmp_path / "m.gguf").open("rb") as file:
        file.seek(5 << 30)
        assert file.read() == b"last"


CHILD = """
import os, signal, sys
from pathlib import Path
from toolkit.gguf.output_file import whole_or_absent
with whole_or_absent(Path(sys.argv[1]), 100) as work:
    {body}
"""


def run_child(output, body):
    command = [sys.executable, "-c", CHILD.format(body=body), str(output)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_a_run_killed_while_its_complete_file_is_checked_is_cleaned_up_too(tmp_path):
    child = run_child(tmp_path / "m.gguf", "work.write(0, b'GGUF' * 25); os.kill(os.getpid(), signal.SIGKILL)")
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    with whole_or_absent(tmp_path / "m.gguf", 2) as work:
        work.write(0, b"ok")
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def test_the_work_of_a_run_that_lives_is_left_alone_whatever_its_number_is_called(tmp_path):
    child = run_child(tmp_path / "m.gguf", "print('ready', flush=True); sys.stdin.read()")
    assert child.stdout.readline() == b"ready\n"
    work = next(tmp_path.glob("*.part"))
    # Another container sees the same file, but no process of that number.
    work = work.rename(work.with_name(work.name.replace(f"-{child.pid}-", "-4000000-")))

    def second():
        with whole_or_absent(tmp_path / "m.gguf", 2):
            pass

    with pytest.raises(OutputError, match=r"process 4000000 is writing m\.gguf already"):
        second()
    assert work.exists()
    work.rename(work.with_name(work.name.replace("-4000000-", f"-{child.pid}-")))
    child.communicate()
    assert child.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def test_an_interrupt_while_space_is_reserved_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "posix_fallocate", interrupted)
    with pytest.raises(KeyboardInterrupt), whole_or_absent(tmp_path / "m.gguf", 100):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_cannot_reserve_space_is_asked_for_its_free_space(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    with whole_or_absent(tmp_path / "m.gguf", 4) as work:
        work.write(0, b"GGUF")
    assert (tmp_path / "m.gguf").read_bytes() == b"GGUF"
    with pytest.raises(OutputError, match=r"no space for n\.gguf"), whole_or_absent(tmp_path / "n.gguf", 1 << 60):
        pass


def test_a_path_that_is_too_long_is_refused_in_one_line(tmp_path):
    deep = tmp_path.joinpath(*["d" * 250] * 20)
    with pytest.raises((OutputError, InputError), match=r"cannot write|does not exist"):
        write_gguf_to(deep / "m.gguf")


def write_gguf_to(output):
    with whole_or_absent(output, 4):
        pass
