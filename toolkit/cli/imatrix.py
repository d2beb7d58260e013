"""`imatrix`: collect, show and merge importance matrices."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from toolkit.cli.common import SIZE, emit_json, json_option, note, warn
from toolkit.cli.files import INPUT, OUTPUT, refuse_existing
from toolkit.cli.loading import devices_document, opened
from toolkit.cli.measuring import measured_text, quality_options, windows_load
from toolkit.cli.options import force_option
from toolkit.cli.output import echo
from toolkit.cli.progress import value_bar

if TYPE_CHECKING:
    from toolkit.importance.layers import LayerImportance
    from toolkit.importance.sums import ImatrixSums
    from toolkit.measures.imatrix_collection import Calibration

COLLECT = "collect"
_SHOWN = 12

EXAMPLE = """
\b
Examples:
  gguf-toolkit imatrix model-bf16.gguf --text calibration.txt -o model.imatrix.gguf
  gguf-toolkit imatrix show model.imatrix.gguf
  gguf-toolkit imatrix merge a.gguf b.gguf -o both.gguf
  gguf-toolkit quantize model-bf16.gguf --profile iq2_xs --imatrix model.imatrix.gguf
"""


class _CollectByDefault(click.Group):
    """A group whose first argument may be a file instead of a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command before arguments that do not begin with a command."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [COLLECT, *args]
        return super().parse_args(ctx, args)


@click.group(name="imatrix", cls=_CollectByDefault, epilog=EXAMPLE)
def command() -> None:
    """Collect an importance matrix of a GGUF file, show one, or merge several.

    `imatrix GGUF -o OUT` is short for `imatrix collect GGUF -o OUT`.
    """


@command.command(name=COLLECT)
@click.argument("gguf", type=INPUT)
@click.option("--output", "-o", type=OUTPUT, required=True, help="File to write, in GGUF format.")
@click.option("--process-output", is_flag=True, help="Collect for output.weight as well.")
@click.option("--moments", is_flag=True, help="Collect second moments, which `convert --rounding calibrated` takes.")
@click.option(
    "--moments-memory",
    type=SIZE,
    default="2GiB",
    show_default=True,
    help="Memory for the sums of --moments; where they take more, the text is read several times.",
)
@click.option("--parse-special", is_flag=True, help="Special tokens written in the text are taken for what they are.")
@force_option
@quality_options
def collect(gguf: Path, **options: Any) -> None:
    """Run a text through a model, and sum up the squares of what each column of its weights is multiplied with.

    The file is the one that llama-imatrix writes. Calibrate on text of the kind that the model is for; --text demo is for
    trying out.
    """
    from toolkit.importance.sums import write_imatrix
    from toolkit.measures.imatrix_collection import Calibration, ImatrixCollector, collect_with

    refuse_existing(options["output"], force=options["force"])
    if click.get_current_context().get_parameter_source("text") is ParameterSource.DEFAULT:
        warn("the text is Python's manual, good for trying out; give --text FILE of the kind that the model is for")
    calibration = Calibration(
        measured_text(options, gguf),
        options["n_ctx"],
        options["chunks"],
        options["process_output"],
        options["parse_special"],
    )
    if options["moments"]:
        _collect_moments(gguf, calibration, options)
        return
    started = time.perf_counter()
    collector = ImatrixCollector(process_output=calibration.process_output)
    load = windows_load(options, options["n_ctx"], options["chunks"], range(options["n_ctx"]))
    with opened(gguf, load, options["n_ctx"], collector) as one, value_bar("imatrix") as tell:
        sums = collect_with(one.runtime, collector, calibration, lambda done, total: tell(done, total, ""))
        devices = devices_document(one)
    write_imatrix(sums, options["output"], force=options["force"])
    _warn_of_unseen(sums)
    seconds = time.perf_counter() - started
    if options["as_json"]:
        about = {"output": str(options["output"]), "seconds": seconds, "devices": devices}
        emit_json("imatrix", about | _summary(sums))
    else:
        note(f"wrote {options['output']}: {_words(sums)}")


def _collect_moments(gguf: Path, calibration: "Calibration", options: dict[str, Any]) -> None:
    from toolkit.importance.moments import write_moments
    from toolkit.measures.moment_collection import MomentCollector, start_moments

    started = time.perf_counter()
    collector = MomentCollector()
    load = windows_load(options, options["n_ctx"], 1, range(options["n_ctx"]))
    with opened(gguf, load, options["n_ctx"], collector) as one, value_bar("moments") as tell:
        run = start_moments(one.runtime, collector, calibration)
        found = run.collect(options["moments_memory"], lambda done, total: tell(done, total, ""))
        write_moments(options["output"], run.header, found, force=options["force"])
        devices = devices_document(one)
    about = {
        "output": str(options["output"]),
        "seconds": time.perf_counter() - started,
        "n_inputs": len(run.header.inputs),
        "chunks": run.windows.count,
        "chunk_size": run.windows.n_ctx,
        "datasets": list(run.header.datasets),
        "devices": devices,
    }
    if options["as_json"]:
        emit_json("imatrix-moments", about)
    else:
        note(f"wrote {options['output']}: second moments of {about['n_inputs']} inputs, {about['chunks']} windows")


@command.command()
@click.argument("file", type=INPUT)
@click.option("--model", type=INPUT, help="GGUF file: say which of its tensors are covered.")
@json_option
def show(file: Path, model: Path | None, as_json: bool) -> None:
    """Show what an importance matrix covers: tensors, tokens, experts never seen, and the layers that matter most."""
    from dataclasses import asdict

    from toolkit.importance.layers import layer_importance
    from toolkit.importance.matrix import read_sums

    sums = read_sums(file)
    layers, remarks = layer_importance(sums), None if model is None else _remarks(file, model)
    if as_json:
        details = {"layers": [asdict(layer) for layer in layers], "tensors": _tensors(sums), "coverage": remarks}
        emit_json("imatrix-show", {"file": str(file)} | _summary(sums) | details)
        return
    echo(f"{file}: {_words(sums)}")
    for remark in remarks or ():
        echo(remark)
    _warn_of_unseen(sums)
    echo()
    _print_layers(layers)
    echo()
    _print_tensors(sums)


def _remarks(file: Path, model: Path) -> list[str]:
    """Return what a matrix lacks for a model, and what it has besides."""
    from toolkit.gguf.reader import read_gguf
    from toolkit.importance.matrix import check_against, read_imatrix

    tensors = [(name, rows.shape) for name, rows in read_gguf(model).tensors.items()]
    return check_against(read_imatrix(file), tensors) or [f"every tensor of {model.name} that needs importance has it"]


@command.command()
@click.argument("files", nargs=-1, required=True, type=INPUT)
@click.option("--output", "-o", type=OUTPUT, required=True, help="File to write, in GGUF format.")
@force_option
@json_option
def merge(files: tuple[Path, ...], output: Path, force: bool, as_json: bool) -> None:
    """Add importance matrices of one model up, as if their texts had been one; both formats are read.

    Files of second moments (`imatrix --moments`) are merged likewise.
    """
    from toolkit.importance.matrix import read_sums
    from toolkit.importance.moments import is_moments, merge_moments, open_moments
    from toolkit.importance.sums import merge_sums, write_imatrix

    if all(map(is_moments, files)):
        merge_moments([open_moments(file) for file in files], output, force=force)
        if as_json:
            emit_json("imatrix-moments", {"output": str(output)})
        else:
            note(f"wrote {output}: second moments of {len(files)} files")
        return
    sums = merge_sums([read_sums(file) for file in files])
    write_imatrix(sums, output, force=force)
    _warn_of_unseen(sums)
    if as_json:
        emit_json("imatrix", {"output": str(output)} | _summary(sums))
    else:
        note(f"wrote {output}: {_words(sums)}")


def _summary(sums: "ImatrixSums") -> dict[str, Any]:
    return {
        "n_tensors": len(sums.entries),
        "chunks": sums.chunks,
        "chunk_size": sums.chunk_size,
        "datasets": list(sums.datasets),
        "unseen_experts": sum(entry.unseen for entry in sums.entries.values()),
    }


def _tensors(sums: "ImatrixSums") -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "matrices": len(entry.counts),
            "columns": int(entry.sums.shape[-1]),
            "tokens": {"least": int(entry.counts.min()), "most": int(entry.counts.max())},
            "unseen": entry.unseen,
            "mean_square": float(entry.means.mean()),
            "total": float(entry.means.sum()),
        }
        for name, entry in sums.entries.items()
    ]


def _words(sums: "ImatrixSums") -> str:
    texts = ", ".join(sums.datasets) or "an unnamed text"
    return f"{len(sums.entries)} tensors, {sums.chunks} windows of {sums.chunk_size} tokens of {texts}"


def _warn_of_unseen(sums: "ImatrixSums") -> None:
    unseen = {name: entry.unseen for name, entry in sums.entries.items() if entry.unseen}
    if unseen:
        first = next(iter(unseen))
        warn(
            f"{sum(unseen.values())} experts in {len(unseen)} tensors saw no token ({first}: {unseen[first]}) and will be "
            "quantized without importance; use more text"
        )


def _print_layers(layers: "list[LayerImportance]") -> None:
    from toolkit.cli.tables import print_table

    ranked = sorted(layers, key=lambda layer: -layer.share)[:_SHOWN]
    rows = [
        (
            str(layer.layer),
            f"{layer.share:.1%}",
            f"{layer.total:.4g}",
            "" if layer.similarity is None else f"{layer.similarity:.3f}",
            str(layer.unseen_experts),
        )
        for layer in ranked
    ]
    print_table(("layer", "share", "sum", "like the one before", "unseen experts"), rows, right=(0, 1, 2, 3, 4))
    if len(layers) > len(ranked):
        echo(f"and {len(layers) - len(ranked)} more; --json has all")


def _print_tensors(sums: "ImatrixSums") -> None:
    from toolkit.cli.tables import print_table

    ranked = sorted(_tensors(sums), key=lambda tensor: -tensor["total"])
    rows = [
        (
            tensor["name"],
            f"{tensor['columns']:,}",
            f"{tensor['tokens']['least']:,}",
            f"{tensor['matrices'] - tensor['unseen']} of {tensor['matrices']}",
            f"{tensor['mean_square']:.4g}",
            f"{tensor['total']:.4g}",
        )
        for tensor in ranked[:_SHOWN]
    ]
    print_table(("most important", "columns", "tokens", "seen", "mean square", "sum"), rows, right=(1, 2, 3, 4, 5))
    if len(ranked) > _SHOWN:
        echo(f"and {len(ranked) - _SHOWN} more; --json has all")
