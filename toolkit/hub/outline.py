"""The outline of a checkpoint on the hub: its config, its vocabulary and the headers of its shards, without weights.

An outline is a checkpoint directory whose shards are sparse files of the true length, with the true header and the few
bytes in which some quantized formats keep a shape or a description. Names, shapes and types are right; weights read as
zeros.
"""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from toolkit.checkpoint.safetensors_reader import MAX_HEADER_BYTES, read_safetensors
from toolkit.checkpoint.tensor import FLOAT_DTYPES
from toolkit.errors import CheckpointError, InputError
from toolkit.hub.model import TORCH_INDEX, HubModel, cache_name
from toolkit.hub.repository import WORKERS, Repository

FIRST_BYTES = 1 << 15
"""of a shard that are read first; most headers end within them"""
DESCRIBING_BYTES, MAX_DESCRIBING = 1024, 2000
"""Integer tensors of up to so many bytes may describe a weight (bitsandbytes' quant_state): they are read, up to so many of them."""


def write_outline(repository: Repository, folder: Path) -> Path:
    """Write the outline of a checkpoint into a folder of its own below `folder`, and return that.

    Nothing is written of PyTorch's files, whose headers are not at one place.

    Raises HubError, or CheckpointError if a shard is not a safetensors file.
    """
    outline = folder / snapshot_name(repository.model, repository.commit)
    outline.mkdir(parents=True)
    files = [file for file in repository.needed.description if file != TORCH_INDEX]
    source = repository.fetch(files)
    for file in files:
        (outline / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, outline / file)
    shards = [file for file in repository.weights if file.endswith(".safetensors")]
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="hub") as pool:
        for _ in pool.map(lambda shard: _write_shard(repository, shard, outline / shard), shards):
            pass
    return outline


def snapshot_name(model: HubModel, commit: str) -> Path:
    """Return the path that the hub's cache gives to a commit, which contains the model's name."""
    return Path(cache_name(model.repo), "snapshots", commit)


def _write_shard(repository: Repository, shard: str, path: Path) -> None:
    header = _read_header(repository, shard)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(repository.sizes[shard])
    read_safetensors(path)  # refuses a header that is not what it should be
    spans = _describing_spans(json.loads(header[8:]), len(header))
    if len(spans) > MAX_DESCRIBING:
        raise InputError(
            f"the shapes of {repository.model} are stored in {len(spans):,} tensors of {shard}, too many to ask for one by one; "
            f"fetch it with `hf download {repository.model.repo}`, and name its folder"
        )
    with path.open("r+b") as file:
        for begin, end in spans:
            file.seek(begin)
            file.write(repository.read(shard, begin, end))


def _read_header(repository: Repository, shard: str) -> bytes:
    """Return the header of a shard with its length before it."""
    start = repository.read(shard, 0, FIRST_BYTES)
    n_bytes, size = 8 + int.from_bytes(start[:8], "little"), repository.sizes[shard]
    if n_bytes > min(size, MAX_HEADER_BYTES):
        raise CheckpointError(
            f"{shard} of {repository.model} begins with a header of {n_bytes:,} bytes but has {size:,}; "
            "it is not a safetensors file"
        )
    rest = repository.read(shard, len(start), n_bytes) if n_bytes > len(start) else b""
    return (start + rest)[:n_bytes]


def _describing_spans(header: dict[str, Any], data_start: int) -> list[tuple[int, int]]:
    """Return the spans of bytes in the file of the integers that shapes of weights may depend on."""
    offsets = (
        entry["data_offsets"]
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] not in FLOAT_DTYPES
    )
    return [(data_start + begin, data_start + end) for begin, end in offsets if 0 < end - begin <= DESCRIBING_BYTES]
