"""A Hugging Face checkpoint directory: its config and its tensors, indexed but not read."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from toolkit.checkpoint.config_spelling import whole_numbers
from toolkit.checkpoint.mistral_format import PARAMS, STEM, config_from_params, is_mistral_format
from toolkit.checkpoint.safetensors_reader import read_safetensors
from toolkit.checkpoint.tensor import CheckpointTensor
from toolkit.checkpoint.torch_reader import read_torch
from toolkit.errors import CheckpointError
from toolkit.json_files import is_inside, read_json_object, refuse_lfs_pointer

INDEX = "model.safetensors.index.json"
ADAPTER_MARKS = ("adapter_config.json", "adapter_model.safetensors", "adapters.safetensors")
_NOT_YET = (
    ("*.bin", "PyTorch .bin files, but no pytorch_model.bin"),
    ("*.pt", "PyTorch .pt weights"),
    ("*.pth", "PyTorch .pth weights"),
    ("*.msgpack", "Flax weights"),
    ("*.h5", "TensorFlow weights"),
    ("*.gguf", "a GGUF file (give its path, and use `quantize`)"),
)
_OTHER_COPIES = (f"{STEM}*.pth", "*.msgpack", "*.h5")
"""weights that are not read, which many repositories have beside those that are"""
_NAMED, _LONGEST = 3, 255
_READ = (".json", ".safetensors", ".model", ".txt", ".jinja", ".tiktoken")
"""suffixes of the files that say what a model is"""


@dataclass(frozen=True)
class _Format:
    """A file format for weights: what its files are called, and how one is read."""

    index: str
    stem: str
    suffix: str
    read: Callable[[Path], Mapping[str, CheckpointTensor]]

    @property
    def shard(self) -> re.Pattern[str]:
        """Return the pattern of file names; its groups are the number of the shard and how many there are."""
        return re.compile(rf"{self.stem}(?:-(\d+)-of-(\d+))?{re.escape(self.suffix)}")


_SAFETENSORS = _Format(INDEX, "model", ".safetensors", read_safetensors)
_PYTORCH = _Format("pytorch_model.bin.index.json", "pytorch_model", ".bin", read_torch)
_MISTRAL = _Format(f"{STEM}.safetensors.index.json", STEM, ".safetensors", read_safetensors)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint directory; `config` is config.json as it stands, or what Mistral's params.json says in its place.

    `lost` are the tensors that the index places in a file which does not hold them: name -> file.
    """

    directory: Path
    config: dict[str, Any]
    tensors: dict[str, CheckpointTensor]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """one line if the directory holds other weights, which are not read"""
    lost: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    """tensors that are stored and not among `tensors`, because a model does not need them: name -> why"""
    quantization: str | None = None
    """method and bits, where tensors are stored as codes"""


def open_checkpoint(directory: Path) -> Checkpoint:
    """Index a checkpoint; memory-maps its weight files and reads their headers only. safetensors win over PyTorch's.

    Raises CheckpointError if files are missing, truncated or malformed, or of a kind that is not supported.
    """
    if not directory.is_dir():
        raise CheckpointError(_no_directory(directory))
    _refuse_broken_links(directory)
    if is_mistral_format(path.name for path in directory.iterdir()):
        return _read_mistral(directory)
    config_file = directory / "config.json"
    if not config_file.is_file():
        raise CheckpointError(_no_config(directory))
    return _read_formats(directory, whole_numbers(read_json_object(config_file)), (_SAFETENSORS, _PYTORCH))


def _read_mistral(directory: Path) -> Checkpoint:
    config, notes = config_from_params(whole_numbers(read_json_object(directory / PARAMS)))
    checkpoint = _read_formats(directory, config, (_MISTRAL,))
    return replace(checkpoint, notes=(*notes, *checkpoint.notes))


def _read_formats(directory: Path, config: dict[str, Any], formats: tuple[_Format, ...]) -> Checkpoint:
    for format_ in formats:
        if (directory / format_.index).is_file():
            return _read_indexed(directory, config, format_)
        files = _weight_files(directory, format_)
        if files:
            return _read_all(directory, config, format_, files)
    raise CheckpointError(_no_weights(directory))


def _no_directory(path: Path) -> str:
    if path.is_file():
        return f"{path} is a file, not a directory; give the checkpoint that it is part of: {path.parent}"
    return f"{path} is not a directory; give a Hugging Face checkpoint directory, or `demo`"


def _refuse_broken_links(directory: Path) -> None:
    """Refuse broken links, which would count as absent files: in a cache of the hub, links outlive the files they lead to."""
    _refuse_broken(path for path in sorted(directory.iterdir()) if path.suffix in _READ)


def _refuse_broken(files: Iterable[Path]) -> None:
    lost = next((path for path in files if path.is_symlink() and not path.exists()), None)
    if lost is not None:
        raise CheckpointError(f"{lost} is a link to a file that does not exist; fetch the model again")


def _no_config(directory: Path) -> str:
    adapter = _adapter(directory)
    if adapter:
        return adapter
    own = next(directory.glob(f"{STEM}*.pth"), None)
    if own is not None:
        return (
            f"{directory} holds {own.name}, weights as their maker's own code reads them, which is not read here; take the model's "
            "Hugging Face files instead: config.json with model*.safetensors"
        )
    snapshots = sorted(directory.glob("snapshots/*/config.json"))
    if snapshots:
        return f"{directory} is a folder of the hub's cache; give the checkpoint in it: {snapshots[-1].parent}"
    return f"{directory} has no config.json; it is not a Hugging Face checkpoint directory"


def _adapter(directory: Path) -> str | None:
    if not any((directory / mark).is_file() for mark in ADAPTER_MARKS):
        return None
    base = _adapter_base(directory)
    return f"{directory} is a LoRA adapter of {base}, not a model: use `convert-lora`, or merge it into its base first (merge_and_unload)"


def _adapter_base(directory: Path) -> str:
    file = directory / ADAPTER_MARKS[0]
    config = read_json_object(file) if file.is_file() else {}
    base = config.get("base_model_name_or_path", config.get("model"))
    return base if isinstance(base, str) else "an unnamed model"


def _read_indexed(directory: Path, config: dict[str, Any], format_: _Format) -> Checkpoint:
    weight_map = read_json_object(directory / format_.index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(map(_is_file_name, weight_map.values())):
        raise CheckpointError(f"{format_.index} has no weight_map of tensor names to file names")
    files = sorted(set(weight_map.values()))
    _refuse_missing(directory, files, weight_map, format_.index)
    tensors = _read_files([directory / file for file in files], format_)
    lost = {name: file for name, file in weight_map.items() if name not in tensors}
    ignored = _not_read(directory, [directory / file for file in files])
    return Checkpoint(directory, config, tensors, warnings=_ignored(ignored, format_.index), lost=lost)


def _is_file_name(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _refuse_missing(directory: Path, files: list[str], weight_map: dict[str, str], index: str) -> None:
    for file in files:
        if not is_inside(file):
            raise CheckpointError(f"{index} names {file[:_LONGEST]!r}, which is outside the checkpoint directory")
        if any(len(part) > _LONGEST for part in PurePosixPath(file).parts):
            raise CheckpointError(
                f"{index} names a file with a name of {len(file):,} characters, which no file has: damaged"
            )
    missing = [file for file in files if not (directory / file).is_file()]
    if missing:
        count = sum(file in missing for file in weight_map.values())
        raise CheckpointError(
            f"{index} names {', '.join(missing)}, absent from {directory}: {count} tensors are missing; download the rest"
        )


def _weight_files(directory: Path, format_: _Format) -> list[Path]:
    """Return the files of a format; of PyTorch's those that bear the name of weights, since other files hold a training state."""
    pattern = f"{format_.stem}*" if format_ is _PYTORCH else "*"
    return sorted(file for file in directory.glob(pattern + format_.suffix) if file.is_file())


def _read_all(directory: Path, config: dict[str, Any], format_: _Format, candidates: list[Path]) -> Checkpoint:
    files = [file for file in candidates if format_.shard.fullmatch(file.name)] or [
        file for file in candidates if file.name not in ADAPTER_MARKS
    ]
    if not files:
        raise CheckpointError(_no_weights(directory))
    _refuse_gaps(files, format_)
    ignored = _not_read(directory, files)
    return Checkpoint(directory, config, _read_files(files, format_), warnings=_ignored(ignored, files[0].name))


def _no_weights(directory: Path) -> str:
    adapter = _adapter(directory)
    if adapter:
        return adapter
    for pattern, what in _NOT_YET:
        others = sorted(directory.glob(pattern))
        if others:
            _refuse_broken(others)
            refuse_lfs_pointer(others[0])
            return f"{directory} holds {what} ({others[0].name}) and no *.safetensors or pytorch_model.bin, which is all that can be read"
    return f"{directory} has no *.safetensors file: download the weights"


def _refuse_gaps(files: list[Path], format_: _Format) -> None:
    matches = [format_.shard.fullmatch(file.name) for file in files]
    numbered = [match for match in matches if match and match[1]]
    if not numbered:
        return
    total = int(numbered[0][2])
    present = {int(match[1]) for match in numbered}
    missing = [number for number in range(1, min(total, 100_000) + 1) if number not in present]
    if missing:
        raise CheckpointError(f"shard {missing[0]} of {total} is missing beside {files[0].name}: download the rest")


def _read_files(files: list[Path], format_: _Format) -> dict[str, CheckpointTensor]:
    tensors: dict[str, CheckpointTensor] = {}
    for file in files:
        for name, tensor in format_.read(file).items():
            if name in tensors:
                raise CheckpointError(f"{name} is in both {tensors[name].file.name} and {file.name}")
            tensors[name] = tensor
    if not tensors:
        raise CheckpointError(f"{files[0].name} holds no tensors")
    return tensors


def _not_read(directory: Path, files: list[Path]) -> list[str]:
    """Return the names of weights in a directory that are not read; GGUF files, which are made from them, do not count."""
    candidates = [file for format_ in (_SAFETENSORS, _PYTORCH) for file in _weight_files(directory, format_)]
    copies = [file for pattern in _OTHER_COPIES for file in directory.glob(pattern)]
    return [file.name for file in (*candidates, *sorted(copies)) if file not in files]


def _ignored(names: list[str], read: str) -> tuple[str, ...]:
    """Say which of two sets of weights is not read."""
    if not names:
        return ()
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (f"ignored {', '.join(names[:_NAMED])}{more}: the weights are read from {read}",)
