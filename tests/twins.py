"""Convert a changed checkpoint beside its plain twin: many faults show as bytes that differ."""

from collections.abc import Callable
from pathlib import Path

from editable_checkpoint import EditableCheckpoint, edit_case

from toolkit.conversion.convert import ConversionOptions, write_gguf
from toolkit.conversion.tensor_plan import plan_conversion
from toolkit.gguf.reader import GgufFile, read_gguf
from toolkit.quant_profile import load_profile
from toolkit.sources.hf_source import source_from_checkpoint

Change = Callable[[EditableCheckpoint], object]


def convert_edited(directory: Path, profile: str = "bf16", **options: bool) -> Path:
    """Convert a directory and return the file, which lies beside it."""
    output = directory.parent / "converted.gguf"
    plan = plan_conversion(source_from_checkpoint(directory), load_profile(profile))
    write_gguf(plan, output, ConversionOptions(threads=2, force=True, **options))
    assert output.stat().st_size == plan.file_bytes
    return output


def changed_case(case: str, root: Path, change: Change | None = None) -> Path:
    """Return the directory root/CASE after a change; the name is that of the case, since the file's name keys follow it."""
    root.mkdir(exist_ok=True)
    checkpoint = edit_case(case, root)
    if change is not None:
        change(checkpoint)
    return checkpoint.save()


def file_of(case: str, root: Path, change: Change | None = None, profile: str = "bf16") -> bytes:
    """Return the bytes of the file that a changed case of the kit converts to."""
    return convert_edited(changed_case(case, root, change), profile).read_bytes()


def gguf_of(case: str, root: Path, change: Change | None = None, profile: str = "bf16") -> GgufFile:
    """Return the file that a changed case of the kit converts to, opened."""
    return read_gguf(convert_edited(changed_case(case, root, change), profile))


def value(file: GgufFile, key: str) -> object:
    """Return a metadata value, None if there is none."""
    found = file.metadata.get(key)
    return None if found is None else found.value
