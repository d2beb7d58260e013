"""`bench`: how fast a GGUF file reads and writes, as llama-bench defines it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import product, zip_longest
from pathlib import Path

from toolkit.errors import InputError
from toolkit.llama.native import thread_waiting
from toolkit.machine.gpus import gpu_bandwidths
from toolkit.machine.load import load_warnings
from toolkit.measures.token_rate import RateSettings, TokenRate, measure_rates
from toolkit.planning.load_plan import LoadedBytes, LoadPlan
from toolkit.planning.token_speed import likely_spilled
from toolkit.reporter import Reporter, WithoutDetails
from toolkit.verbs.devices import warn_of_unused_gpu
from toolkit.verbs.loading import HowToLoad, PlacementFields, load_file
from toolkit.verbs.values import NotNegative, Positive
from toolkit.verbs.verb import verb


@dataclass(frozen=True)
class BenchRequest(PlacementFields):
    """A GGUF file, and the lengths and ways of loading that are measured, each with each."""

    gguf: Path | str
    _: KW_ONLY
    n_prompt: Sequence[NotNegative] = (512,)
    """tokens of the prompt"""
    n_generate: Sequence[NotNegative] = (128,)
    """tokens to generate"""
    n_depth: Sequence[NotNegative] = (0,)
    """tokens of context before them"""
    n_gpu_layers: Sequence[NotNegative | None] = (None,)
    """layers on the GPU; None is what fits"""
    kv: Sequence[str] = ("f16",)
    """types of the KV cache, TYPE or TYPE/TYPE for keys and values"""
    threads: Sequence[Positive | None] = (None,)
    """CPU threads; None is the number of physical cores"""
    repetitions: Positive = 5

    @property
    def tests(self) -> list[RateSettings]:
        """Return what is measured of every load."""
        pairs = list(zip_longest(self.n_prompt, self.n_generate, fillvalue=0))
        return [
            RateSettings(n_prompt, n_generate, self.repetitions, n_depth=depth)
            for depth in self.n_depth
            for n_prompt, n_generate in pairs
        ]

    @property
    def loads(self) -> list[HowToLoad]:
        """Return the ways of loading."""
        return [
            HowToLoad(fields=self, n_gpu_layers=layers, kv=kv, threads=threads)
            for layers, kv, threads in product(self.n_gpu_layers or (None,), self.kv, self.threads or (None,))
        ]


@dataclass(frozen=True)
class BenchLoad:
    """The file as it was loaded: how, how long it took, and what each device holds."""

    how: HowToLoad
    seconds: float
    plan: LoadPlan
    devices: tuple[LoadedBytes, ...]


@dataclass(frozen=True)
class BenchRow:
    """One measurement."""

    load: BenchLoad
    settings: RateSettings
    rate: TokenRate


@dataclass(frozen=True)
class BenchResult:
    """All measurements, in the order of the request."""

    gguf: Path
    rows: tuple[BenchRow, ...]
    thread_waiting: str
    """how llama.cpp's threads wait for each other: passive, active, or spinning"""


@verb(BenchRequest)
def bench(request: BenchRequest, reporter: Reporter) -> BenchResult:
    """Measure tokens per second, after a warm-up: means of repetitions with their sample standard deviation.

    ```python
    result = toolkit.bench("model-Q4_K_M.gguf", n_prompt=[512], n_generate=[128], n_depth=[0, 4096])
    print([row.rate.generation_tokens_per_second for row in result.rows])
    ```

    Raises GgufError for a file that llama.cpp refuses, DoesNotFitError if it does not fit, InputError for lengths of 0.
    """
    gguf = Path(request.gguf)
    warn_of_unused_gpu(reporter)
    for message in load_warnings():
        reporter.warn(message)
    tests, total = request.tests, len(request.loads) * len(request.tests)
    if not tests:
        raise InputError("there is nothing to measure; give tokens of a prompt (-p) or to generate (-n)")
    rows: list[BenchRow] = []
    with reporter.task("bench") as task:
        for row in _measure(gguf, request, WithoutDetails(reporter)):
            rows.append(row)
            task.update(len(rows), total)
    for message in spill_warnings(rows):
        reporter.warn(message)
    return BenchResult(gguf, tuple(rows), thread_waiting())


def spill_warnings(rows: Sequence[BenchRow]) -> list[str]:
    """Return a warning for every load that generates so slowly that the driver has likely moved its memory to RAM."""
    if not gpu_bandwidths():
        return []
    warnings = []
    for row in rows:
        measured, predicted = row.rate.generation_tokens_per_second, row.load.plan.choice.tokens_per_second
        on_gpu = row.load.plan.settings.n_gpu_layers and not row.load.plan.settings.rpc
        if measured is not None and on_gpu and likely_spilled(measured, predicted):
            warnings.append(
                f"{measured:.1f} tokens/s where the GPU's bandwidth allows {predicted:.1f}: the driver has likely spilled its "
                "memory into RAM; close other programs, or leave more free with --margin"
            )
    return warnings


def _measure(gguf: Path, request: BenchRequest, reporter: Reporter) -> Iterator[BenchRow]:
    n_ctx_seq = max(max(test.n_prompt, test.n_generate) + test.n_depth for test in request.tests)
    for how in request.loads:
        started = time.perf_counter()
        with load_file(gguf, how, max(1, n_ctx_seq), reporter) as loaded:
            load = BenchLoad(how, time.perf_counter() - started, loaded.plan, loaded.devices)
            for test in request.tests:
                yield BenchRow(load, test, measure_rates(loaded.runtime, test))
