"""`doctor`: what this machine can do, and what would make it do more."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import emit_json, installed_version, json_option, note
from toolkit.cli.output import echo
from toolkit.errors import EnvironmentFaultError

if TYPE_CHECKING:
    from toolkit.doctor import Diagnosis

EXAMPLE = """
\b
Examples:
  gguf-toolkit doctor
  gguf-toolkit doctor --json
  gguf-toolkit doctor --calibrate
"""


@click.command(epilog=EXAMPLE)
@click.option("--no-measure", is_flag=True, help="Do not measure the memory's bandwidth.")
@click.option(
    "--calibrate", is_flag=True, help="Measure what a process takes of each GPU beyond buffers; plans use it."
)
@json_option
@click.pass_context
def command(ctx: click.Context, no_measure: bool, calibrate: bool, as_json: bool) -> None:
    """Show GPUs and what is free on them, RAM, disk, threads, bandwidth, versions, and what is missing.

    The exit code is 4 where llama-cpp-python is not installed or does not compute on this processor, and with --calibrate
    where there is no GPU to measure.
    """
    from toolkit.doctor import diagnose

    if calibrate:
        _calibrate()
    diagnosis = diagnose(installed_version, Path.cwd(), measure=not no_measure)
    if as_json:
        emit_json("doctor", document(diagnosis))
    else:
        _print(diagnosis)
    if not diagnosis.healthy:
        ctx.exit(EnvironmentFaultError.exit_code)


def _calibrate() -> None:
    from toolkit.planning.calibration import calibrate
    from toolkit.planning.margin import known_overheads
    from toolkit.units import format_size

    for overhead in calibrate(known_overheads()):
        note(f"{overhead.gpu}: a process takes {format_size(overhead.n_bytes)} beyond its buffers ({overhead.origin})")


def document(diagnosis: "Diagnosis") -> dict[str, Any]:
    """Return the JSON document of a diagnosis."""
    from dataclasses import asdict

    return {
        "healthy": diagnosis.healthy,
        "gpus": _gpus_document(diagnosis),
        "notes": list(diagnosis.notes),
        "llama_cpp_python": {
            "installed": diagnosis.build.installed,
            "offloads": diagnosis.build.offloads,
            "backends": list(diagnosis.build.backends),
            "trial": {
                "computes": diagnosis.trial.computes,
                "extra_buffers": diagnosis.trial.extra_buffers,
                **asdict(diagnosis.trial),
            },
        },
        "ram": {
            "total_bytes": diagnosis.ram.total_bytes,
            "available_bytes": diagnosis.ram.available_bytes,
            "origin": diagnosis.ram.origin,
            "bytes_per_second": diagnosis.ram_bytes_per_second or None,
        },
        "disk": {"path": str(diagnosis.disk_path), "free_bytes": diagnosis.disk_free_bytes},
        "threads": diagnosis.threads,
        "cache": str(diagnosis.cache) if diagnosis.cache else None,
        "versions": {
            "python": diagnosis.versions.python,
            "system": diagnosis.versions.system,
            **diagnosis.versions.distributions,
        },
        "advice": list(diagnosis.advice),
    }


def _gpus_document(diagnosis: "Diagnosis") -> list[dict[str, Any]]:
    speeds = diagnosis.gpu_bytes_per_second
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
        for index, (gpu, overhead) in enumerate(zip(diagnosis.gpus, diagnosis.overheads, strict=True))
    ]


def _print(diagnosis: "Diagnosis") -> None:
    for name, value in _rows(diagnosis):
        echo(f"{name:18}{value}")
    for line in diagnosis.advice:
        echo()
        echo(f"-> {line}")


def _rows(diagnosis: "Diagnosis") -> list[tuple[str, str]]:
    from toolkit.units import format_size

    ram, versions = diagnosis.ram, diagnosis.versions
    rows = [("GPU", line) for line in _gpu_lines(diagnosis)]
    rows += [
        ("llama-cpp-python", _build_words(diagnosis)),
        ("this processor", diagnosis.trial.words),
        ("RAM", f"{format_size(ram.available_bytes)} available of {format_size(ram.total_bytes)} ({ram.origin})"),
    ]
    if diagnosis.ram_bytes_per_second:
        rows.append(
            ("RAM bandwidth", f"{diagnosis.ram_bytes_per_second / 1e9:.1f} GB/s read by {diagnosis.threads} threads")
        )
    rows += [
        ("threads", f"{diagnosis.threads}"),
        ("disk", f"{format_size(diagnosis.disk_free_bytes)} free at {diagnosis.disk_path}"),
        ("cache", str(diagnosis.cache) if diagnosis.cache else "off"),
        ("system", f"{versions.system}, Python {versions.python}"),
        ("versions", ", ".join(f"{name} {version or 'missing'}" for name, version in versions.distributions.items())),
    ]
    return rows


def _gpu_lines(diagnosis: "Diagnosis") -> list[str]:
    from toolkit.units import format_size

    lines = []
    for index, (gpu, overhead) in enumerate(zip(diagnosis.gpus, diagnosis.overheads, strict=True)):
        speed = diagnosis.gpu_bytes_per_second[index : index + 1]
        rate = f", {speed[0] / 1e9:.0f} GB/s" if speed else ""
        held = f", held by {len(gpu.holders)} processes" if gpu.holders else ""
        lines.append(
            f"{gpu.name}: {format_size(gpu.free_bytes)} free of {format_size(gpu.total_bytes)}{rate}{held} ({gpu.origin})"
        )
        beyond = f"{format_size(overhead.n_bytes)}, measured" if overhead else "not measured: doctor --calibrate"
        lines.append(f"  beyond the buffers a process takes {beyond}")
    return lines or ["none found" + (f" ({'; '.join(diagnosis.notes)})" if diagnosis.notes else "")]


def _build_words(diagnosis: "Diagnosis") -> str:
    build = diagnosis.build
    if not build.installed:
        return "missing"
    backends = ", ".join(build.backends) or "the CPU only"
    return f"{diagnosis.versions.distributions['llama-cpp-python']}, built for {backends}"
