from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.errors import DoesNotFitError
from toolkit.memory import DeviceBytes, Footprint
from toolkit.planner import Budget, Choice, Prefer, Split, choose_split, rank


def on_gpu(weights_bytes: int, compute_bytes: int = 0) -> Footprint:
    return Footprint((DeviceBytes("GPU", False, weights_bytes, 0, compute_bytes),), "test")


def footprints(layers: list[int], partial_compute: int = 0, whole_compute: int = 0) -> Callable[[int], Footprint]:
    """Give the footprint of a model whose last `n` entries lie on the GPU; the last entry is the output."""

    def at(n_gpu_layers: int) -> Footprint:
        n_gpu_layers = min(n_gpu_layers, len(layers))
        compute = whole_compute if n_gpu_layers == len(layers) else partial_compute if n_gpu_layers else 0
        return on_gpu(sum(layers[len(layers) - n_gpu_layers :]), compute)

    return at


layer_sizes = st.lists(st.integers(0, 1000), min_size=2, max_size=90)


@given(layer_sizes, st.integers(0, 60_000), st.integers(0, 500), st.integers(0, 900))
def test_the_split_fits_and_one_more_layer_would_not(
    layers: list[int], vram_bytes: int, margin_bytes: int, partial_compute: int
) -> None:
    asked: list[int] = []
    at = footprints(layers, partial_compute)

    def counting(n_gpu_layers: int) -> Footprint:
        asked.append(n_gpu_layers)
        return at(n_gpu_layers)

    n_layer, budget = len(layers) - 1, Budget(vram_bytes, margin_bytes)
    if margin_bytes > vram_bytes:
        with pytest.raises(DoesNotFitError):
            choose_split(counting, n_layer, budget)
        return
    split = choose_split(counting, n_layer, budget)
    assert budget.holds(at(split.n_gpu_layers))
    assert split.footprint == at(split.n_gpu_layers)
    assert split.fits_whole == (split.n_gpu_layers == n_layer + 1)
    assert split.fits_whole or not budget.holds(at(split.n_gpu_layers + 1))
    assert len(asked) <= 2 + len(layers).bit_length()


@given(layer_sizes, st.integers(0, 60_000), st.integers(0, 5_000))
def test_a_larger_budget_never_gives_fewer_layers(layers: list[int], vram_bytes: int, more: int) -> None:
    at, n_layer = footprints(layers), len(layers) - 1
    smaller, larger = (choose_split(at, n_layer, Budget(size)) for size in (vram_bytes, vram_bytes + more))
    assert smaller.n_gpu_layers <= larger.n_gpu_layers


def test_a_whole_offload_is_found_though_a_partial_one_needs_more_compute_memory() -> None:
    split = choose_split(footprints([10] * 5, partial_compute=100, whole_compute=1), 4, Budget(51))
    assert (split.n_gpu_layers, split.fits_whole) == (5, True)


def test_full_offload_counts_the_output_as_a_layer() -> None:
    assert choose_split(footprints([10] * 33), 32, Budget(330)).n_gpu_layers == 33
    assert choose_split(footprints([10] * 33), 32, Budget(329)).n_gpu_layers == 32


def test_what_fits_nowhere_says_by_how_much() -> None:
    with pytest.raises(DoesNotFitError, match=r"needs 2\.00 KiB more than the budget of 1\.00 KiB") as caught:
        choose_split(lambda _: on_gpu(3 << 10), 4, Budget(1 << 10))
    assert caught.value.exit_code == 3


def choice(profile: str, bits: float, size: int, layers: int = 33, kv_type: str = "f16") -> Choice:
    return Choice(profile, bits, size, kv_type, Split(layers, on_gpu(size), layers == 33))


Q8, Q6, Q4, Q3, Q2 = (
    ("Q8_0", 8.5, 85),
    ("Q6_K", 6.56, 66),
    ("Q4_K_M", 4.5, 48),
    ("Q3_K_M", 3.44, 39),
    ("Q2_K", 2.63, 33),
)


def best(choices: list[Choice], prefer: Prefer = Prefer.BALANCE) -> tuple[str, int, str]:
    first = rank(choices, prefer)[0]
    return first.profile, first.split.n_gpu_layers, first.kv_type


def test_the_largest_file_that_fits_whole_is_best() -> None:
    assert best([choice(*Q4), choice(*Q8, layers=20), choice(*Q6)]) == ("Q6_K", 33, "f16")


def test_q4_k_m_with_layers_on_the_cpu_comes_before_a_file_of_fewer_bits() -> None:
    choices = [choice(*Q2), choice(*Q3), choice(*Q4, layers=25), choice(*Q8, layers=9)]
    assert [each.profile for each in rank(choices)] == ["Q4_K_M", "Q3_K_M", "Q2_K", "Q8_0"]


def test_speed_prefers_the_smaller_file_that_fits_whole() -> None:
    choices = [choice(*Q2), choice(*Q3), choice(*Q4, layers=25), choice(*Q8, layers=9)]
    assert [each.profile for each in rank(choices, Prefer.SPEED)] == ["Q3_K_M", "Q2_K", "Q4_K_M", "Q8_0"]


def test_quality_prefers_the_larger_file_that_is_split() -> None:
    choices = [choice(*Q6), choice(*Q4), choice(*Q8, layers=30)]
    assert [each.profile for each in rank(choices, Prefer.QUALITY)] == ["Q8_0", "Q6_K", "Q4_K_M"]


def test_a_smaller_kv_cache_is_taken_only_where_it_gains_layers() -> None:
    assert best([choice(*Q4, kv_type="q8_0"), choice(*Q4)]) == ("Q4_K_M", 33, "f16")
    assert best([choice(*Q4, layers=30), choice(*Q4, kv_type="q8_0")]) == ("Q4_K_M", 33, "q8_0")
    assert best([choice(*Q4, layers=20), choice(*Q4, layers=22, kv_type="q8_0")]) == ("Q4_K_M", 22, "q8_0")


def test_the_order_does_not_depend_on_the_order_of_the_question() -> None:
    choices = [choice(*each, layers=layers) for each in (Q8, Q6, Q4, Q3, Q2) for layers in (33, 20)]
    for prefer in Prefer:
        assert rank(choices, prefer) == rank(choices[::-1], prefer)
