"""Tokens per second as llama-bench defines them.

Prompt: `n_prompt` random tokens in batches. Generation: `n_generate` random tokens one at a time. Both on a memory of
`n_depth` tokens, which take no part in the time. Each after a warm-up, repeated, as the mean of the rates and their
sample standard deviation.
Source: `test_prompt()` and `test_gen()` in tools/llama-bench/llama-bench.cpp of llama.cpp (commit 0c1e570).
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy

from toolkit.errors import InputError
from toolkit.llama.evaluation import Runtime

Clock = Callable[[], float]


@dataclass(frozen=True)
class RateSettings:
    """How much to run, and how often; a count of 0 leaves that half out."""

    n_prompt: int = 512
    n_generate: int = 128
    repetitions: int = 3
    seed: int = 0
    n_depth: int = 0


@dataclass(frozen=True)
class TokenRate:
    """Rates and their sample standard deviations; None where nothing was measured."""

    prompt_tokens_per_second: float | None
    prompt_tokens_per_second_stddev: float | None
    generation_tokens_per_second: float | None
    generation_tokens_per_second_stddev: float | None


def measure_rates(
    runtime: Runtime, settings: RateSettings | None = None, clock: Clock = time.perf_counter
) -> TokenRate:
    """Return how fast a model reads and writes.

    Raises InputError if its context is too short, or nothing is asked for.
    """
    settings = settings or RateSettings()
    longest = max(settings.n_prompt, settings.n_generate)
    needed = longest + settings.n_depth
    if needed > runtime.n_ctx:
        raise InputError(f"{needed:,} tokens do not fit in a context of {runtime.n_ctx:,}; load the model with more")
    if longest < 1 or settings.repetitions < 1:
        raise InputError("there is nothing to measure: ask for at least one token and one repetition")
    measure = _Measure(runtime, settings, clock)
    prompt = measure.rate(measure.read_prompt, settings.n_prompt, warm_up=settings.n_prompt)
    return TokenRate(*prompt, *measure.rate(measure.generate, settings.n_generate, warm_up=1))


class _Measure:
    """One model, one clock, one stream of random tokens."""

    def __init__(self, runtime: Runtime, settings: RateSettings, clock: Clock) -> None:
        self._runtime, self._settings, self._clock = runtime, settings, clock
        self._random = numpy.random.default_rng(settings.seed)
        self._is_deep = False

    def read_prompt(self, count: int) -> None:
        """Read a prompt of `count` tokens."""
        self._runtime.feed(self._tokens(count))

    def generate(self, count: int) -> None:
        """Take `count` tokens, one at a time."""
        for token in self._tokens(count):
            self._runtime.feed([token])

    def rate(self, run: Callable[[int], None], count: int, warm_up: int) -> tuple[float | None, float | None]:
        """Return mean and sample standard deviation of the rates of one kind of run."""
        if count == 0:
            return None, None
        self._runtime.clear()
        self._is_deep = False
        run(warm_up)
        rates = [count / self._seconds(run, count) for _ in range(self._settings.repetitions)]
        return statistics.fmean(rates), statistics.stdev(rates) if len(rates) > 1 else 0.0

    def _seconds(self, run: Callable[[int], None], count: int) -> float:
        self._go_to_depth()
        start = self._clock()
        run(count)
        return self._clock() - start

    def _go_to_depth(self) -> None:
        depth = self._settings.n_depth
        if depth and self._is_deep and self._runtime.rewind(depth):
            return
        self._runtime.clear()
        if depth:
            self._runtime.feed(self._tokens(depth))
            self._is_deep = True

    def _tokens(self, count: int) -> list[int]:
        tokens: list[int] = self._random.integers(0, self._runtime.n_vocab, count).tolist()
        bos_token = self._runtime.bos_token
        return tokens if bos_token is None else [bos_token, *tokens[1:]]
