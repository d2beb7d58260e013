from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest

from toolkit.machine.load import cores_are_taken, load_warnings, measure_ram_bandwidth, ram_bandwidth, running_threads

Times = namedtuple("Times", "user system idle iowait")


class Psutil:
    """A machine of four cores on which others work `others` seconds between two looks."""

    def __init__(self, others: float = 0.0, frequency: object = None, plugged: bool | None = None) -> None:
        self._others, self._looks, self._frequency, self._plugged = others, 0, frequency, plugged

    def cpu_count(self) -> int:
        return 4

    def cpu_times(self) -> Times:
        self._looks += 1
        return Times(100 + self._others * (self._looks - 1), 0, 50, 7)

    def Process(self) -> SimpleNamespace:  # noqa: N802  # psutil's name
        return SimpleNamespace(cpu_times=lambda: SimpleNamespace(user=1.0, system=0.5))

    def cpu_freq(self) -> object:
        return self._frequency

    def sensors_battery(self) -> object:
        return None if self._plugged is None else SimpleNamespace(power_plugged=self._plugged)


def test_a_quiet_machine_is_not_worth_a_word() -> None:
    quiet = Psutil(0.001, SimpleNamespace(current=3000, max=3200), True)
    assert load_warnings(quiet, 0.01) == []


def test_others_at_work_are_told_as_a_share_of_all_cores() -> None:
    assert load_warnings(Psutil(0.02), 0.01) == [
        "other processes use 50% of the processor, so rates are lower than they could be"
    ]


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (Psutil(frequency=SimpleNamespace(current=900, max=3200)), "900 of 3200 MHz"),
        (Psutil(plugged=False), "on battery"),
    ],
)
def test_what_holds_the_processor_back_is_told(machine: Psutil, words: str) -> None:
    [warning] = load_warnings(machine, 0.01)
    assert words in warning


def test_the_real_machine_can_be_asked() -> None:
    assert all(isinstance(line, str) for line in load_warnings(seconds=0.01))


@pytest.mark.parametrize(
    ("running", "taken"),
    [([9, 8, 5], True), ([4, 9, 9], False), ([9, 9, 4], False), ([None], False), ([5, 5, 5], True)],
)
def test_cores_are_taken_where_more_threads_want_to_run_in_every_look(running: list[int | None], taken: bool) -> None:
    looks = iter(running)
    assert cores_are_taken(lambda: next(looks), cores=4, pause=0) is taken


def test_running_threads_are_those_that_the_kernel_counts(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    file = tmp_path / "proc/loadavg"
    file.write_text("0.51 2.70 1.49 7/121 14020\n")
    assert running_threads(tmp_path) == 7
    file.write_text("0.51\n")
    assert running_threads(tmp_path) is None
    assert running_threads(tmp_path / "elsewhere") is None


def test_the_best_round_counts():
    ticks = iter([0.0, 4.0, 10.0, 11.0, 20.0, 22.0])
    assert measure_ram_bandwidth(2, 1 << 20, lambda: next(ticks)) == 2 << 20


def test_a_measurement_is_remembered(monkeypatch, tmp_path):
    monkeypatch.setenv("GGUF_TOOLKIT_CACHE", str(tmp_path))
    monkeypatch.setattr("toolkit.machine.load.measure_ram_bandwidth", lambda: 1e10)
    assert ram_bandwidth() == 1e10
    monkeypatch.setattr("toolkit.machine.load.measure_ram_bandwidth", None)
    assert ram_bandwidth() == 1e10
