"""What the measuring commands share: their options, the loading of a model, and a progress bar with a running value."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import COUNT, Function, emit_json, warn
from toolkit.errors import QualityError

if TYPE_CHECKING:
    from toolkit.evaluation_text import EvaluationText
    from toolkit.runtime import LlamaRuntime, RuntimeSettings

KV_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "iq4_nl", "q4_1", "q4_0")
ALL_LAYERS = 999
_BATCH = 512
Tell = Callable[[int, int, str], None]


@dataclass(frozen=True)
class RunOptions:
    """How to load a model to measure it."""

    n_gpu_layers: int | None = None
    """None offloads every layer where there is a GPU"""
    kv: str = "f16"
    threads: int | None = None

    def settings(self, n_ctx: int) -> "RuntimeSettings":
        """Return the settings of a runtime whose sequence holds `n_ctx` tokens."""
        from toolkit.runtime import RuntimeSettings, supports_offload

        layers = self.n_gpu_layers
        if layers is None:
            layers = ALL_LAYERS if supports_offload() else 0
        kv_type_k, _, kv_type_v = self.kv.partition("/")
        batch = min(_BATCH, n_ctx)
        return RuntimeSettings(n_ctx, batch, batch, layers, kv_type_k, kv_type_v or kv_type_k, n_threads=self.threads)


def run_options(options: dict[str, Any]) -> RunOptions:
    """Return what `quality_options` read."""
    return RunOptions(options["n_gpu_layers"], options["kv"], options["threads"])


def parse_kv(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Return `TYPE` or `TYPE/TYPE` of a KV cache in small letters."""
    kinds = value.lower().split("/")
    unknown = [kind for kind in kinds if kind not in KV_TYPES]
    if unknown or len(kinds) > 2:
        raise click.BadParameter(
            f"{value!r} is no type of a KV cache; write one of {', '.join(KV_TYPES)}, or two as KEYS/VALUES"
        )
    return "/".join(kinds)


_QUALITY_OPTIONS = (
    click.option("--text", default="demo", show_default=True, help="Text file in UTF-8, or `demo`: Python's manual."),
    click.option("--ctx", "n_ctx", type=COUNT, default=512, show_default=True, help="Tokens of a window."),
    click.option("--chunks", type=click.IntRange(min=1), help="Windows to measure on; default: all of the text."),
    click.option("-ngl", "--n-gpu-layers", type=click.IntRange(min=0), help="Layers on the GPU; default: all."),
    click.option(
        "--kv", default="f16", show_default=True, callback=parse_kv, metavar="TYPE[/TYPE]", help="Type of the KV cache."
    ),
    click.option("--threads", "-t", type=click.IntRange(min=1), help="CPU threads; default: physical cores."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout."),
)


def quality_options(function: Function) -> Function:
    """Add the options of every command that measures on a text."""
    for option in reversed(_QUALITY_OPTIONS):
        function = option(function)
    return function


@contextmanager
def loaded(path: Path, settings: "RuntimeSettings") -> Iterator["LlamaRuntime"]:
    """Load a model, with a warning where the measurement is not what a user may think."""
    from toolkit.runtime import LlamaRuntime

    with LlamaRuntime(path, settings) as runtime:
        if settings.n_ctx > runtime.n_ctx_train:
            warn(
                f"{path.name} was trained for {runtime.n_ctx_train:,} tokens, fewer than the {settings.n_ctx:,} measured"
            )
        yield runtime


def warn_of_unused_gpu() -> None:
    """Say so where a GPU is there and llama-cpp-python cannot use it."""
    from toolkit.devices import list_gpus
    from toolkit.runtime import supports_offload

    gpus = list_gpus().gpus
    if gpus and not supports_offload():
        warn(
            f"llama-cpp-python was built without offload, so {gpus[0].name} is not used and rates are the CPU's; "
            'reinstall it with: CMAKE_ARGS="-DGGML_CUDA=on" pip install --force-reinstall --no-binary :all: llama-cpp-python'
        )


def text_document(text: "EvaluationText") -> dict[str, Any]:
    """Return what says whether two measurements may be compared."""
    return {"text": text.name, "text_sha256": text.sha256}


@contextmanager
def value_bar(label: str) -> Iterator[Tell]:
    """Give a function (done, total, value so far) that moves a bar on stderr; nothing is drawn without a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=None)

        def tell(done: int, total: int, value: str) -> None:
            bar.update(task, completed=done, total=total, description=f"{label}  {value}")

        yield tell


@contextmanager
def explained(paths: Sequence[Path], schema: str, keys: Sequence[str], *, as_json: bool) -> Iterator[None]:
    """Where logits are not finite, name the weights that may be why, and give `--json` its document of nulls."""
    from toolkit.bad_weights import find_bad_weights

    try:
        yield
    except QualityError as error:
        suspects = [f"{path.name}: {name}" for path in paths for name in find_bad_weights(path)]
        message = f"{error}; suspected: {', '.join(suspects[:3])}" if suspects else str(error)
        if as_json:
            emit_json(schema, dict.fromkeys(keys) | {"error": message, "suspected_tensors": suspects})
        raise QualityError(message) from error
