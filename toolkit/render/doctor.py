"""What a machine can do, as text and as JSON."""

from dataclasses import asdict
from typing import Any

from toolkit.units import format_size
from toolkit.verbs.doctor import DoctorResult


def doctor_document(result: DoctorResult) -> dict[str, Any]:
    """Return the JSON document of what was found."""
    return {
        "healthy": result.healthy,
        "gpus": _gpus_document(result),
        "notes": list(result.notes),
        "llama_cpp_python": {
            "installed": result.build.installed,
            "offloads": result.build.offloads,
            "backends": list(result.build.backends),
            "trial": {
                "computes": result.trial.computes,
                "extra_buffers": result.trial.extra_buffers,
                **asdict(result.trial),
            },
        },
        "ram": {
            "total_bytes": result.ram.total_bytes,
            "available_bytes": result.ram.available_bytes,
            "origin": result.ram.origin,
            "bytes_per_second": result.ram_bytes_per_second or None,
        },
        "disk": {"path": str(result.disk_path), "free_bytes": result.disk_free_bytes},
        "threads": result.threads,
        "cache": str(result.cache) if result.cache else None,
        "versions": {
            "python": result.versions.python,
            "system": result.versions.system,
            **result.versions.distributions,
        },
        "advice": list(result.advice),
    }


def _gpus_document(result: DoctorResult) -> list[dict[str, Any]]:
    speeds = result.gpu_bytes_per_second
    return [
        {
            "name": gpu.name,
            "uuid": gpu.uuid,
            "total_bytes": gpu.total_bytes,
            "free_bytes": gpu.free_bytes,
            "held_by": [{"pid": holder.pid, "used_bytes": holder.used_bytes} for holder in gpu.holders],
            "bytes_per_second": speeds[index] if index < len(speeds) else None,
            "origin": gpu.origin,
            "overhead_bytes": overhead.n_bytes if overhead else None,
        }
        for index, (gpu, overhead) in enumerate(zip(result.gpus, result.overheads, strict=True))
    ]


def doctor_lines(result: DoctorResult) -> list[str]:
    """Return a line for everything that was found, and what would make the machine do more."""
    lines = [f"{name:18}{value}" for name, value in _rows(result)]
    for advice in result.advice:
        lines += ["", f"-> {advice}"]
    return lines


def _rows(result: DoctorResult) -> list[tuple[str, str]]:
    ram, versions = result.ram, result.versions
    rows = [("GPU", line) for line in _gpu_lines(result)]
    rows += [
        ("llama-cpp-python", _build(result)),
        ("this processor", result.trial.summary),
        ("RAM", f"{format_size(ram.available_bytes)} available of {format_size(ram.total_bytes)} ({ram.origin})"),
    ]
    if result.ram_bytes_per_second:
        rows.append(("RAM bandwidth", f"{result.ram_bytes_per_second / 1e9:.1f} GB/s read by {result.threads} threads"))
    rows += [
        ("threads", f"{result.threads}"),
        ("disk", f"{format_size(result.disk_free_bytes)} free at {result.disk_path}"),
        ("cache", str(result.cache) if result.cache else "off"),
        ("system", f"{versions.system}, Python {versions.python}"),
        ("versions", ", ".join(f"{name} {version or 'missing'}" for name, version in versions.distributions.items())),
    ]
    return rows


def _gpu_lines(result: DoctorResult) -> list[str]:
    lines = []
    for index, (gpu, overhead) in enumerate(zip(result.gpus, result.overheads, strict=True)):
        speed = result.gpu_bytes_per_second[index : index + 1]
        rate = f", {speed[0] / 1e9:.0f} GB/s" if speed else ""
        held = f", held by {len(gpu.holders)} processes" if gpu.holders else ""
        lines.append(
            f"{gpu.name}: {format_size(gpu.free_bytes)} free of {format_size(gpu.total_bytes)}{rate}{held} ({gpu.origin})"
        )
        beyond = f"{format_size(overhead.n_bytes)}, measured" if overhead else "not measured: doctor --calibrate"
        lines.append(f"  beyond the buffers a process takes {beyond}")
    return lines or ["none found" + (f" ({'; '.join(result.notes)})" if result.notes else "")]


def _build(result: DoctorResult) -> str:
    build = result.build
    if not build.installed:
        return "missing"
    backends = ", ".join(build.backends) or "the CPU only"
    return f"{result.versions.distributions['llama-cpp-python']}, built for {backends}"
