"""Runs of targets in worker processes: what they refused, what they failed over, and what took too long or too much."""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, NoReturn

MAX_SECONDS = 5.0
"""A run that takes more of a processor hangs; a whole conversion's plan takes a hundredth of that."""
MAX_WAIT = 60.0
"""A run that takes longer by the clock hangs, on however busy a machine."""
MAX_MEMORY = 6 << 30
"""of address space: what the libraries map takes most of it"""
BATCH = 200
"""Runs before a worker says how far it is."""


class _HangError(BaseException):
    """A run took too long; no reader catches it."""


@dataclass
class Tally:
    """What became of the runs of a target."""

    runs: int = 0
    refused: int = 0
    seconds: float = 0.0
    faults: list[tuple[int, str]] = field(default_factory=list)
    """seed and what happened, each kind once"""
    n_faults: int = 0

    def add(self, other: "Tally") -> None:
        """Add the runs of a batch."""
        self.runs += other.runs
        self.refused += other.refused
        self.seconds += other.seconds
        self.n_faults += other.n_faults
        known = {_kind(what) for _, what in self.faults}
        self.faults += [fault for fault in other.faults if _kind(fault[1]) not in known]


def _kind(what: str) -> str:
    return ":".join(what.splitlines()[-1].split(":")[:3])


def run_batch(name: str, seeds: range, verbose: bool = False) -> Tally:
    """Run a target with some seeds, in this process."""
    from fuzzing.targets import TARGETS

    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_fast_folder()) as folder:
        case = TARGETS[name].make(Path(folder, "case"))
        started = time.monotonic()
        for seed in seeds:
            _one(case.run, seed, name, tally, verbose)
        tally.seconds = time.monotonic() - started
    return tally


def _fast_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _one(run: Callable[[Random], object], seed: int, name: str, tally: Tally, verbose: bool) -> None:
    import click

    from toolkit.errors import ToolkitError

    tally.runs += 1
    try:
        with _time_limit():
            run(Random(f"{name} {seed}"))
    except (ToolkitError, click.ClickException, click.exceptions.Exit, click.Abort, OSError) as error:
        tally.refused += 1
        if verbose:
            sys.stderr.write(f"refused: {error}\n")
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # all else is what this looks for
        tally.n_faults += 1
        what = f"{''.join(traceback.format_tb(error.__traceback__)[-4:])}{_place(error)}: {type(error).__name__}: {str(error)[:200]!r}"
        if verbose:
            traceback.print_exception(error)
        if len(tally.faults) < 20 and _kind(what) not in {_kind(known) for _, known in tally.faults}:
            tally.faults.append((seed, what))


def _place(error: BaseException) -> str:
    """Return the deepest line of the toolkit that an error went through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/toolkit/" in frame.filename] or frames
    return f"{'/'.join(Path(own[-1].filename).parts[-3:])}:{own[-1].lineno}"


@contextmanager
def _time_limit() -> Iterator[None]:
    def too_long(_number: int, _frame: FrameType | None) -> NoReturn:
        raise _HangError(f"longer than {MAX_SECONDS:g} s")

    before = [signal.signal(number, too_long) for number in (signal.SIGPROF, signal.SIGALRM)]
    signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
    signal.setitimer(signal.ITIMER_REAL, MAX_WAIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip((signal.SIGPROF, signal.SIGALRM), before, strict=True):
            signal.signal(number, handler)


def work() -> None:
    """Be a worker: take batches from stdin, one JSON list a line, and answer with tallies on stdout."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    from fuzzing.hub import endpoint

    os.environ |= {"HF_ENDPOINT": endpoint(), "HF_HUB_OFFLINE": "0", "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    answers = sys.stdout
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):  # noqa: PTH123
        for line in sys.stdin:
            name, start, stop = json.loads(line)
            answers.write(json.dumps(asdict(run_batch(name, range(start, stop)))) + "\n")
            answers.flush()


class _Worker:
    """A process that runs batches; one that dies took its batch with it, and the next starts anew."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(self, name: str, seeds: range) -> Tally:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps([name, seeds.start, seeds.stop]) + "\n")
            process.stdin.flush()
        killer = _kill_after(process, 60 + (MAX_WAIT + 1) * len(seeds))
        line = process.stdout.readline()
        killer.cancel()
        if line:
            found: dict[str, Any] = json.loads(line)
            return Tally(**found | {"faults": [tuple(fault) for fault in found["faults"]]})
        code = process.wait()
        self._process = None
        if len(seeds) > 1:  # each alone, until the one that kills is found
            tally, middle = Tally(), (seeds.start + seeds.stop) // 2
            for half in (range(seeds.start, middle), range(middle, seeds.stop)):
                tally.add(self.run(name, half))
            return tally
        return Tally(1, 0, 0.0, [(seeds.start, f"the process ended with {code}")], 1)

    def _started(self) -> "subprocess.Popen[str]":
        if self._process is None:
            environment = os.environ | {
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
                "OMP_WAIT_POLICY": "passive",
            }
            self._process = subprocess.Popen(
                [sys.executable, sys.argv[0], "--worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=environment,
            )
        return self._process

    def close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()


def _kill_after(process: "subprocess.Popen[str]", seconds: float) -> Any:
    from threading import Timer

    timer = Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    return timer


@dataclass(frozen=True)
class _Wanted:
    """What is still to be run of a target."""

    name: str
    seeds: range


def _batches(names: Sequence[str], runs: int, seed: int) -> list[_Wanted]:
    """Return the batches of all targets, mixed, so that a limit of time cuts off a share of each."""
    from fuzzing.targets import TARGETS

    shares = {name: TARGETS[name].share for name in names}
    whole = sum(shares.values())
    batches = []
    for name, share in shares.items():
        count = max(1, round(runs * share / whole))
        batches += [
            (start / count, _Wanted(name, range(seed + start, seed + min(start + BATCH, count))))
            for start in range(0, count, BATCH)
        ]
    return [wanted for _, wanted in sorted(batches, key=lambda entry: entry[0])]


def run_all(
    names: Sequence[str], runs: int, seed: int, seconds: float, n_workers: int, report: Path | None = None
) -> dict[str, Tally]:
    """Run targets until all runs are done or the time is over."""
    from queue import Empty, SimpleQueue
    from threading import Thread

    queue: SimpleQueue[_Wanted] = SimpleQueue()
    for wanted in _batches(names, runs, seed):
        queue.put(wanted)
    tallies = {name: Tally() for name in names}
    end = time.monotonic() + seconds

    def drive() -> None:
        worker = _Worker()
        while time.monotonic() < end:
            try:
                wanted = queue.get_nowait()
            except Empty:
                break
            tallies[wanted.name].add(worker.run(wanted.name, wanted.seeds))
            if report is not None:
                report.write_text(table(tallies), encoding="utf-8")
        worker.close()

    threads = [Thread(target=drive) for _ in range(n_workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tallies


def table(tallies: dict[str, Tally]) -> str:
    """Return the figures by target, and what was found with the seed that repeats it."""
    lines = [f"{'target':28} {'runs':>9} {'refused':>9} {'faults':>7} {'ms a run':>9}"]
    for name, tally in (*tallies.items(), ("all", _sum(tallies))):
        rate = 1000 * tally.seconds / max(1, tally.runs)
        lines.append(f"{name:28} {tally.runs:9,} {tally.refused:9,} {tally.n_faults:7,} {rate:9.2f}")
    for name, tally in tallies.items():
        for seed, what in tally.faults:
            lines += ["", f"--target {name!r} --seed {seed} --runs 1", what]
    return "\n".join(lines) + "\n"


def _sum(tallies: dict[str, Tally]) -> Tally:
    whole = Tally()
    for tally in tallies.values():
        whole.runs += tally.runs
        whole.refused += tally.refused
        whole.seconds += tally.seconds
        whole.n_faults += tally.n_faults
    return whole


def main(description: str) -> int:
    """Run what the command line asks for; 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--target", action="append", metavar="NAME", help="only this one; repeatable; `--list` names all"
    )
    parser.add_argument("--list", action="store_true", help="name the targets, and end")
    parser.add_argument(
        "--runs", type=int, default=1_000_000, help="in all, shared among the targets (default: 1,000,000)"
    )
    parser.add_argument("--seconds", type=float, default=120, help="end after so long, whatever was run (default: 120)")
    parser.add_argument("--seed", type=int, default=0, help="of the first run of each target (default: 0)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--report", type=Path, help="a file that has the figures so far while it runs")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work()
        return 0
    from fuzzing.targets import TARGETS

    if arguments.list:
        sys.stdout.write("\n".join(TARGETS) + "\n")
        return 0
    names = arguments.target or list(TARGETS)
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        parser.error(f"no target is called {unknown[0]!r}; --list names all")
    if arguments.runs == 1 and len(names) == 1:
        tally = run_batch(names[0], range(arguments.seed, arguments.seed + 1), verbose=True)
        sys.stdout.write(table({names[0]: tally}))
        return 1 if tally.n_faults else 0
    tallies = run_all(names, arguments.runs, arguments.seed, arguments.seconds, arguments.workers, arguments.report)
    sys.stdout.write(table(tallies))
    return 1 if any(tally.n_faults for tally in tallies.values()) else 0
