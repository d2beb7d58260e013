from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tiny_model import write_tiny_model

from toolkit.errors import InputError
from toolkit.llama.evaluation import Logits
from toolkit.llama.runtime import LlamaRuntime
from toolkit.measures.token_rate import RateSettings, measure_rates


class TimedRuntime:
    """A runtime that takes a known time for every call, on a clock of its own."""

    n_parallel = 1
    n_ctx, n_vocab = 1024, 100
    can_rewind = True

    def __init__(self, bos_token: int | None = 1, slower_each_call: float = 0.0) -> None:
        self.bos_token, self.now, self.slower = bos_token, 0.0, slower_each_call
        self.calls: list[list[int]] = []
        self.cleared = 0
        self.rewound: list[int] = []

    def clear(self) -> None:
        self.cleared += 1

    def rewind(self, n_tokens: int) -> bool:
        self.rewound.append(n_tokens)
        return self.can_rewind

    def feed(self, tokens: Sequence[int]) -> None:
        self.calls.append(list(tokens))
        self.now += (0.001 if len(tokens) > 1 else 0.01) * len(tokens) * (1 + self.slower * len(self.calls))

    def evaluate_chunks(self, chunks: Sequence[Sequence[int]], logits_for: slice) -> Iterator[tuple[int, int, Logits]]:
        raise NotImplementedError

    def clock(self) -> float:
        return self.now


def test_rates_are_tokens_over_seconds() -> None:
    runtime = TimedRuntime()
    rate = measure_rates(runtime, RateSettings(100, 20, 3), runtime.clock)
    assert rate.prompt_tokens_per_second == pytest.approx(1000)
    assert rate.generation_tokens_per_second == pytest.approx(100)
    assert rate.prompt_tokens_per_second_stddev == pytest.approx(0, abs=1e-6)


def test_each_half_warms_up_and_starts_every_run_on_an_empty_memory() -> None:
    runtime = TimedRuntime()
    measure_rates(runtime, RateSettings(100, 20, 3), runtime.clock)
    assert [len(call) for call in runtime.calls] == [100] * 4 + [1] * (1 + 3 * 20)
    assert runtime.cleared == 8


def test_the_spread_is_the_sample_standard_deviation_of_the_rates() -> None:
    runtime = TimedRuntime(slower_each_call=0.5)
    rate = measure_rates(runtime, RateSettings(100, 0, 2), runtime.clock)
    first, second = 1000 / 2.0, 1000 / 2.5
    assert rate.prompt_tokens_per_second == pytest.approx((first + second) / 2)
    assert rate.prompt_tokens_per_second_stddev == pytest.approx(abs(first - second) / 2**0.5)
    assert rate.generation_tokens_per_second is None


def test_tokens_are_random_the_same_every_time_and_begin_with_bos() -> None:
    runs = [TimedRuntime() for _ in range(2)]
    for runtime in runs:
        measure_rates(runtime, RateSettings(50, 4, 1), runtime.clock)
    assert runs[0].calls == runs[1].calls
    assert runs[0].calls[0][0] == 1
    assert len(set(runs[0].calls[0])) > 10


def test_depth_is_filled_once_and_takes_no_part_in_the_time() -> None:
    runtime = TimedRuntime()
    rate = measure_rates(runtime, RateSettings(100, 0, 3, n_depth=400), runtime.clock)
    assert rate.prompt_tokens_per_second == pytest.approx(1000)
    assert [len(call) for call in runtime.calls] == [100, 400, 100, 100, 100]
    assert runtime.rewound == [400, 400]


def test_depth_is_filled_again_where_the_memory_cannot_go_back() -> None:
    runtime = TimedRuntime()
    runtime.can_rewind = False
    measure_rates(runtime, RateSettings(100, 0, 2, n_depth=400), runtime.clock)
    assert [len(call) for call in runtime.calls] == [100, 400, 100, 400, 100]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (RateSettings(2000, 0), "2,000 tokens do not fit in a context of 1,024"),
        (RateSettings(500, 0, n_depth=600), "1,100 tokens do not fit"),
        (RateSettings(0, 0), "nothing to measure"),
    ],
)
def test_what_cannot_be_measured_is_refused(settings: RateSettings, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure_rates(TimedRuntime(), settings)


def test_a_real_model_has_rates(tmp_path: Path) -> None:
    with LlamaRuntime(write_tiny_model(tmp_path / "m.gguf")) as runtime:
        rate = measure_rates(runtime, RateSettings(32, 4, 2))
    assert rate.prompt_tokens_per_second is not None
    assert rate.prompt_tokens_per_second > 0
    assert rate.generation_tokens_per_second is not None
    assert rate.generation_tokens_per_second > 0
