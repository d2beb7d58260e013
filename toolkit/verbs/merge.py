"""`merge`: the files of a split model to one."""

import time
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from toolkit.gguf.inputs import read_here, refuse_input
from toolkit.gguf.merge import plan_merge, write_merged
from toolkit.gguf.shard_names import whole_name
from toolkit.reporter import Reporter
from toolkit.verbs.conversion import refuse_split_name
from toolkit.verbs.verb import verb
from toolkit.verification.file_check import check_loads


@dataclass(frozen=True)
class MergeRequest:
    """Any file of a split model."""

    source: Path | str
    output: Path | str | None = None
    """None is a file called after the parts, in the current folder"""
    _: KW_ONLY
    force: bool = False
    """replace an existing output"""


@dataclass(frozen=True)
class MergeResult:
    """The file that was written, and what it was joined from."""

    output: Path
    parts: tuple[Path, ...]
    file_bytes: int
    seconds: float


@verb(MergeRequest)
def merge(request: MergeRequest, reporter: Reporter) -> MergeResult:
    """Join the files of a split model, byte for byte what they were cut from; the parts stay.

    ```python
    toolkit.merge("model-00001-of-00003.gguf", "model.gguf")
    ```

    Raises GgufError for a part that is absent or damaged, InputError or OutputError for an output that cannot be written.
    """
    source = Path(request.source)
    read_here(source)
    plan = plan_merge(source)
    output = Path(whole_name(plan.source.path)) if request.output is None else Path(request.output)
    refuse_input(output)
    refuse_split_name(output)
    started = time.perf_counter()
    total = sum(rows.data.nbytes for rows in plan.source.tensors.values())
    with reporter.task(output.name, total, unit="bytes") as task:
        write_merged(plan, output, check_loads, force=request.force, task=task)
    seconds = time.perf_counter() - started
    return MergeResult(output, tuple(plan.source.paths), plan.layout.file_bytes, seconds)
