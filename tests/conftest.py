"""Fixtures that several test modules share, and what the suite prints at its end."""

import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from json_documents import check_document, check_printed
from tiny_model import write_tiny_model
from tool_prints import prints_of, this_build

import toolkit
from toolkit.conversion.convert import write_gguf
from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.llama.opening import files_opened_by
from toolkit.memory.probe import MemoryProbe
from toolkit.quant_profile import load_profile
from toolkit.sources.hf_source import source_from_checkpoint

MEASURED = {
    "memory_difference": "memory predicted before conversion, largest difference from a real load, in bytes",
    "log_difference": "memory read from llama.cpp's log, largest difference from its own account, in bytes",
    "estimate_error": "memory estimated by formula, largest error of a compute buffer, in percent",
}
"""What tests record with `record_property` as (architecture, number), and how the summary calls it."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the largest number of every architecture, whichever process measured it."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name in MEASURED:
                    found[name][value[0]].append(value[1])
    _tell_of_prints(terminalreporter)
    for name, numbers in found.items():
        largest = [f"{architecture} {max(each, key=abs):g}" for architecture, each in sorted(numbers.items())]
        terminalreporter.write_line(f"{MEASURED[name]}: {', '.join(largest)}")


def _tell_of_prints(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which prints of llama.cpp's tools were compared, and which not, because they are another build's."""
    found: dict[bool, list[str]] = defaultdict(list)
    for report in terminalreporter.getreports("passed"):
        for key, value in report.user_properties:
            if key == "print":
                found[value[1]].append(value[0])
    if found[True]:
        terminalreporter.write_line(f"printed digits of llama.cpp's tools, all equal: {', '.join(sorted(found[True]))}")
    if found[False]:
        terminalreporter.write_line(
            f"no prints of llama.cpp's tools for this build, held against `llama_tools` alone: "
            f"{', '.join(sorted(found[False]))} ({this_build()})"
        )


@pytest.fixture
def tool_print(record_property: Callable[[str, object], None]) -> Callable[[str, str], bool]:
    """Give a function that tells whether a print of one of llama.cpp's tools is known for this build.

    If it is, what `llama_tools` made of it here must be the same to the letter.
    """

    def is_known(name: str, made_here: str) -> bool:
        known = prints_of(this_build()).get(name)
        record_property("print", (name, known is not None))
        assert known is None or known == made_here.strip()
        return known is not None

    return is_known


@pytest.fixture(autouse=True, scope="session")
def a_cache_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests ask of llama.cpp out of the user's cache folder, and ask it once a session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GGUF_TOOLKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def one_child_that_opens_files(a_cache_of_their_own: None) -> Iterator[None]:
    """Let one child process try every file that a test opens, instead of one for each."""
    with MemoryProbe() as probe, files_opened_by(probe.opens):
        yield


@pytest.fixture(scope="session")
def kit_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give a function that writes a case of the kit, once a session; treat the directory as read-only."""
    root = tmp_path_factory.mktemp("kit")
    return cache(lambda case: write_checkpoint(case, root))


@pytest.fixture(scope="session")
def converted(
    kit_checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Path]:
    """Give a function that converts a case of the kit with a profile, once a session."""
    root = tmp_path_factory.mktemp("converted")

    @cache
    def convert(case: str, profile: str) -> Path:
        path = root / f"{case}.{profile}.gguf"
        plan = plan_conversion(source_from_checkpoint(kit_checkpoint(case)), load_profile(profile))
        write_gguf(plan, path)
        assert path.stat().st_size == plan.file_bytes
        return path

    return convert


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the name of a GGUF file with two blocks in F16, and that as its file type."""
    folder = tmp_path_factory.mktemp("tiny")
    result = toolkit.quantize(write_tiny_model(folder / "raw.gguf"), folder / "tiny-F16.gguf", profile="f16")
    return str(result.paths[0])


@pytest.fixture(scope="session")
def tiny_q8_0(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the name of the same model in Q8_0."""
    result = toolkit.quantize(tiny, str(tmp_path_factory.mktemp("tiny") / "tiny-Q8_0.gguf"), profile="q8_0")
    return str(result.paths[0])


@pytest.fixture(scope="session")
def license_text() -> str:
    """Give the name of a text file of some hundred words."""
    return str(Path(__file__).parents[1] / "LICENSE")


@pytest.fixture
def run_command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Give a function that runs the real command in a process of its own."""

    def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "toolkit", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=120, **options)  # type: ignore[call-overload]
        check_printed(done.stdout)
        return done  # type: ignore[no-any-return]

    return run


@pytest.fixture(autouse=True, scope="session")
def _documents_keep_their_schema() -> Iterator[None]:
    """Hold every document that a command prints in this process against its schema."""
    from toolkit.cli import common

    print_document = common.echo_document

    def checked(document: dict[str, object]) -> None:
        check_document(document)
        print_document(document)

    common.echo_document = checked
    yield
    common.echo_document = print_document
