"""Whether the machine is quiet enough to measure speed on."""

import time
from importlib import import_module
from typing import Any

_BUSY_SHARE = 0.15
_SLOW_SHARE = 0.6


def load_warnings(psutil: Any = None, seconds: float = 0.5) -> list[str]:
    """Return what would spoil a measurement of speed: other processes at work, a processor that is held back.

    `psutil` is the module of that name; the load is watched for `seconds`, in which this process does nothing.
    """
    if psutil is None:
        psutil = import_module("psutil")
    own = psutil.Process()
    before = _busy_seconds(psutil) - _seconds_of(own)
    time.sleep(seconds)
    cores = psutil.cpu_count() or 1
    share = max(0.0, _busy_seconds(psutil) - _seconds_of(own) - before) / (seconds * cores)
    found = []
    if share > _BUSY_SHARE:
        found.append(f"other processes use {share:.0%} of the processor, so rates are lower than they could be")
    return found + _held_back(psutil)


def _busy_seconds(psutil: Any) -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0) - getattr(times, "guest", 0))


def _seconds_of(process: Any) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _held_back(psutil: Any) -> list[str]:
    """Return a warning where the clock is far below its maximum although the machine is hot or saving power."""
    frequency = psutil.cpu_freq() if hasattr(psutil, "cpu_freq") else None
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    found = []
    if battery is not None and battery.power_plugged is False:
        found.append("the machine runs on battery, which may hold the processor back")
    if frequency is not None and frequency.max and frequency.current < _SLOW_SHARE * frequency.max:
        found.append(f"the processor runs at {frequency.current:.0f} of {frequency.max:.0f} MHz; it may be throttled")
    return found
