"""Whether this build of llama.cpp computes on this processor, tried in a child process that may die of it.

A compiler can get the CPU's own kernels wrong, and a library can come from another processor. What a signal ended in the
child would end the program; the answer is kept on disk for the build and the processor.
"""

import logging
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from toolkit.errors import EnvironmentFaultError
from toolkit.llama.offload_build import llama_build, offload_build, rebuild_line
from toolkit.machine.disk_cache import DiskCache, cache_folder
from toolkit.machine.host import child_environment

COMMAND = (sys.executable, "-m", "toolkit.llama.cpu_products")
PLAIN = "CPU"
"""the buffer type of weights as they stand in the file"""
_FORMAT = 1
_TIMEOUT_SECONDS = 120.0
_FAULTS = ("SIGILL", "SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGTRAP", "SIGSYS")
"""signals that tell of the code, and not of somebody who wanted it to end"""
_WINDOWS_FAULTS = {0xC000001D: "SIGILL", 0xC0000005: "SIGSEGV", 0xC0000409: "SIGABRT"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trial:
    """What ended the products, and where; nothing if all were computed."""

    fault: str | None = None
    """the signal's name"""
    buffer_type: str = ""
    """what held the weights; nothing if the library did not get so far"""
    tensor_type: str = ""
    n_rows: int = 0

    @property
    def computes(self) -> bool:
        """Tell whether models can be run at all."""
        return self.fault is None or self.buffer_type not in ("", PLAIN)

    @property
    def extra_buffers(self) -> bool:
        """Tell whether weights may lie in layouts of the CPU's own kernels (AMX, CPU_REPACK)."""
        return self.fault is None

    @property
    def summary(self) -> str:
        """Return what happened, in a sentence's part."""
        if self.fault is None:
            return "every tensor type is computed"
        if not self.tensor_type:
            return f"loading it ends in {self.fault}"
        return (
            f"multiplying {self.tensor_type} weights in {self.buffer_type} buffers with a batch of {self.n_rows} "
            f"ends in {self.fault}"
        )


WORKS = Trial()


def cpu_trial() -> Trial:
    """Return how the trial of this build on this processor ended; where it cannot be made, nothing speaks against it."""
    return _kept_trial(cache_folder())


@cache
def _kept_trial(folder: Any) -> Trial:
    if not offload_build().installed:
        return WORKS
    kept, key = DiskCache.below(folder, "cpu"), [_FORMAT, llama_build()]
    document = kept.get(key)
    if isinstance(document, dict) and document.keys() == asdict(WORKS).keys():
        return Trial(**document)
    found = run_trial()
    # A process can also end for want of memory, so a fault is kept once it was seen twice.
    if found is not None and (found == WORKS or found == run_trial()):
        kept.put(key, asdict(found))
    return found or WORKS


def run_trial(command: Sequence[str] = COMMAND, timeout_seconds: float = _TIMEOUT_SECONDS) -> Trial | None:
    """Return what the products of a child process ended in; None where that tells nothing of the build."""
    environment = child_environment() | {"OMP_WAIT_POLICY": "passive"}
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", env=environment, timeout=timeout_seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode == 0:
        return WORKS
    fault = _fault(done.returncode)
    if fault is None:
        return None
    product = (done.stdout.splitlines() or [""])[-1].split()
    return Trial(fault, product[0], product[1], int(product[2])) if len(product) == 3 else Trial(fault)


def _fault(code: int) -> str | None:
    if code >= 0:
        return _WINDOWS_FAULTS.get(code)
    try:
        name = signal.Signals(-code).name
    except ValueError:
        return None
    return name if name in _FAULTS else None


def refuse_broken_build() -> None:
    """Warn where models have to do without extra buffers.

    Raises EnvironmentFaultError where this build does not compute on this processor.
    """
    trial = cpu_trial()
    if not trial.computes:
        raise EnvironmentFaultError(f"{complaint(trial)}: {rebuild_line(offload_build())}")
    if not trial.extra_buffers:
        _warn_once(
            f"{complaint(trial)}; models are loaded without extra buffers, and read prompts slower; `gguf-toolkit doctor` has the cure"
        )


@cache
def _warn_once(message: str) -> None:
    _log.warning(message)


def complaint(trial: Trial) -> str:
    """Return what is wrong with the build, and what it needs."""
    if trial.computes:
        return f"the compiler of llama-cpp-python got some kernels wrong ({trial.summary})"
    if trial.fault == "SIGILL":
        return f"llama-cpp-python was built for another processor ({trial.summary}); build it on this machine"
    return f"llama-cpp-python does not compute on this processor ({trial.summary}); build it again"
