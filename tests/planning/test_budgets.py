"""What a plan may take: never more than the budget less what stays free."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.llama.footprint import DeviceBytes, Footprint
from toolkit.planning.budgets import Budgets
from toolkit.units import MIB

RAM = 1 << 40
SIZES = st.lists(st.integers(0, 8 * MIB), min_size=1, max_size=3)


def footprint(*gpus: int, host: int = 0, asked: bool = True) -> Footprint:
    devices = [DeviceBytes(f"GPU{number}", False, size, 0, 0) for number, size in enumerate(gpus)]
    names = tuple(device.name for device in devices) if asked else ()
    return Footprint((*devices, DeviceBytes("CPU", True, host, 0, 0)), "made up", names)


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize(("taken", "excess"), [(9, 0), (9.5, 0.5), (10, 1), (10.5, 1.5)])
def test_what_stays_free_is_not_for_a_footprint(taken: float, excess: float, asked: bool) -> None:
    budgets = Budgets((10 * MIB,), RAM, margin_bytes=MIB)
    found = footprint(int(taken * MIB), asked=asked)
    assert budgets.excess(found) == (excess * MIB,)
    assert budgets.holds(found) == (excess == 0)


@given(SIZES, SIZES, st.integers(0, 2 * MIB))
def test_what_is_held_leaves_the_margin_free_on_every_gpu(taken: list[int], sizes: list[int], margin: int) -> None:
    taken = (taken * 3)[: len(sizes)]
    budgets = Budgets(tuple(sizes), RAM, margin)
    fits = all(size == 0 or size + margin <= budget for size, budget in zip(taken, sizes, strict=True))
    assert budgets.holds(footprint(*taken)) == fits


def test_one_gpu_that_is_too_full_is_not_made_up_for_by_another() -> None:
    budgets = Budgets((4 * MIB, 8 * MIB), RAM, MIB)
    assert budgets.excess(footprint(4 * MIB, 2 * MIB)) == (MIB, 0)
    assert budgets.excess(footprint(2 * MIB, 8 * MIB)) == (0, MIB)


def test_ram_is_for_both_where_the_gpus_memory_is_the_hosts() -> None:
    found = footprint(3 * MIB, host=2 * MIB)
    assert Budgets((8 * MIB,), 4 * MIB).ram_excess(found) == 0
    assert Budgets((8 * MIB,), 4 * MIB, one_pool=True).ram_excess(found) == MIB
    assert Budgets((8 * MIB,), MIB).ram_excess(found) == MIB
