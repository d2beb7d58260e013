"""What is compared: GGUF files that exist, and profiles of one model that are converted when they are measured."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from toolkit.checkpoint.checkpoint import open_checkpoint
from toolkit.conversion.convert import ConversionOptions, write_gguf
from toolkit.conversion.tensor_plan import ConversionPlan, plan_conversion
from toolkit.errors import InputError
from toolkit.gguf.layout import bits_per_weight
from toolkit.gguf.reader import read_gguf
from toolkit.gguf.scratch import ScratchFolder
from toolkit.importance.matrix import Imatrix
from toolkit.machine.disk_cache import content_digest
from toolkit.memory.plannable import PlannableModel, PlannedFile, model_from_gguf
from toolkit.model_source import ModelSource
from toolkit.quant_profile import load_profile


@dataclass(frozen=True)
class Candidate:
    """A file that takes part; `make_file` gives it for as long as it is needed."""

    name: str
    digest: str
    """of all that its bytes depend on"""
    model: PlannableModel
    make_file: Callable[[], AbstractContextManager[Path]]
    path: Path | None = None
    """where it is, or will stay"""

    @property
    def file(self) -> PlannedFile:
        """Return its shapes, types and size."""
        return self.model.make(self.model.profiles[0])

    @property
    def bits_per_weight(self) -> float:
        """Return the bits of tensor data per weight."""
        return bits_per_weight(self.file.tensors)

    @property
    def is_unquantized(self) -> bool:
        """Tell whether it can be the base of others: by its tensors, because a file type may be absent or wrong."""
        return all(tensor.type.block_length == 1 for tensor in self.file.tensors)


@dataclass(frozen=True)
class Conversions:
    """How profiles of a model become files."""

    source: ModelSource
    path: Path
    """the checkpoint or the GGUF file that the source was read from"""
    imatrix: Imatrix | None = None
    keep: Path | None = None
    """a folder in which the files stay; without one each is removed once it is measured"""
    options: ConversionOptions = ConversionOptions()  # noqa: RUF009  # frozen


def candidates_from_files(paths: Sequence[Path]) -> list[Candidate]:
    """Return GGUF files as candidates, each under the shortest name that tells them apart.

    Raises GgufError if one is damaged or is not a model, InputError if one is given twice.
    """
    resolved = [path.resolve() for path in paths]
    twice = next((path for path in paths if resolved.count(path.resolve()) > 1), None)
    if twice is not None:
        raise InputError(f"{twice} is given twice; a file is compared with others")
    stems = [path.name.removesuffix(".gguf") for path in paths]
    names = [str(path) if stems.count(stem) > 1 else stem for path, stem in zip(paths, stems, strict=True)]
    return [candidate_from_file(path, name) for path, name in zip(paths, names, strict=True)]


def candidate_from_file(path: Path, name: str) -> Candidate:
    """Return one GGUF file, or one set of split files, as a candidate."""
    model, members = model_from_gguf(path), read_gguf(path).paths
    return Candidate(name, content_digest(members), model, lambda: nullcontext(members[0]), members[0])


def candidates_from_profiles(conversions: Conversions, profiles: Sequence[str]) -> list[Candidate]:
    """Return profiles of one model as candidates; nothing is converted yet.

    Raises ProfileError or ImatrixError if one cannot be made, InputError if one is given twice.
    """
    names = [load_profile(profile).name for profile in profiles]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"--profiles has {twice} twice; give each once")
    return [candidate_from_profile(conversions, profile) for profile in profiles]


def candidate_from_profile(conversions: Conversions, profile: str) -> Candidate:
    """Return one profile of a model as a candidate."""
    source = conversions.source
    plan = plan_conversion(source, load_profile(profile), conversions.imatrix)
    name = plan.profile.name
    planned = PlannedFile(name, plan.bits_per_weight, plan.file_bytes, plan.metadata, plan.tensors)
    model = PlannableModel(source.name, plan.metadata, (name,), lambda _: planned)
    kept_path = conversions.keep / f"{source.name}-{name}.gguf" if conversions.keep is not None else None
    return Candidate(
        name, _content_of(plan, conversions), model, partial(_converted, plan, kept_path, conversions), kept_path
    )


def _content_of(plan: ConversionPlan, conversions: Conversions) -> str:
    """Return what the bytes of a file depend on that is not made yet: its header, the weights, the importance matrix."""
    weights = content_digest(_weight_files(conversions.path))
    importance = "" if conversions.imatrix is None else content_digest([conversions.imatrix.path])
    header = hashlib.sha256(plan.layout.header).hexdigest()
    return hashlib.sha256(f"{header} {weights} {importance}".encode()).hexdigest()


def _weight_files(path: Path) -> Sequence[Path]:
    if not path.is_dir() or (not (path / "config.json").exists() and any(path.glob("*.gguf"))):
        return read_gguf(path).paths
    return sorted({tensor.file for tensor in open_checkpoint(path).tensors.values()})


@contextmanager
def _converted(plan: ConversionPlan, kept_path: Path | None, conversions: Conversions) -> Iterator[Path]:
    if kept_path is not None:
        if not _is_there(plan, kept_path):
            write_gguf(plan, kept_path, conversions.options)
        yield kept_path
        return
    with ScratchFolder() as folder:
        path = folder / f"{conversions.source.name}-{plan.profile.name}.gguf"
        write_gguf(plan, path, conversions.options)
        yield path


def _is_there(plan: ConversionPlan, path: Path) -> bool:
    """Tell whether a run before left this very file: files are whole or absent, so its header says it."""
    header = plan.layout.header
    if not path.is_file() or path.stat().st_size != plan.file_bytes:
        return False
    with path.open("rb") as file:
        return file.read(len(header)) == header
