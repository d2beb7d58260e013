"""`merge`: the files of a split model to one."""

import time
from pathlib import Path

import click

from toolkit.cli.common import emit_json, json_option
from toolkit.cli.conversion import refuse_split_name
from toolkit.cli.files import INPUT, OUTPUT
from toolkit.cli.options import force_option
from toolkit.cli.output import echo

EXAMPLE = """
\b
Example:
  gguf-toolkit merge model-00001-of-00003.gguf model.gguf
"""


@click.command(epilog=EXAMPLE)
@click.argument("source", metavar="PART.gguf", type=INPUT)
@click.argument("output", metavar="[OUT.gguf]", required=False, type=OUTPUT)
@force_option
@json_option
def command(source: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Join the split model that PART.gguf is any file of, byte for byte what it was cut from; the parts stay.

    Without OUT.gguf the file is called after the parts, in the current folder.
    """
    from toolkit.cli.progress import progress_bar
    from toolkit.gguf.inputs import refuse_input
    from toolkit.gguf.merge import plan_merge, write_merged
    from toolkit.gguf.shard_names import whole_name
    from toolkit.units import format_duration, format_size
    from toolkit.verification.file_check import check_loads

    merge = plan_merge(source)
    path = output or Path(whole_name(merge.source.path))
    refuse_input(path)
    refuse_split_name(path)
    started = time.perf_counter()
    with progress_bar(path.name, sum(rows.data.nbytes for rows in merge.source.tensors.values())) as advance:
        write_merged(merge, path, check_loads, force=force, progress=advance)
    seconds = time.perf_counter() - started
    if as_json:
        parts = [str(part) for part in merge.source.paths]
        emit_json(
            "merge",
            {"output": str(path), "parts": parts, "file_bytes": merge.layout.file_bytes, "seconds": seconds},
        )
        return
    echo(
        f"wrote {path} ({format_size(merge.layout.file_bytes)}) from {len(merge.source.paths)} parts "
        f"in {format_duration(seconds)}"
    )
