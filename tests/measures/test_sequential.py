"""Bets on the mean of bounded values: fair in every order of a small text, and as wide as exact bounds say at least."""

import math
from itertools import permutations

import numpy
import pytest

from toolkit.measures.sequential import FRACTIONS, SHARES, capitals, mean_above, mean_below

TEXT = numpy.array([0.1, 0.9, 0.4, 0.35, 0.0, 0.75, 0.2])
ORDERS = [TEXT[list(order)] for order in permutations(range(len(TEXT)))]
LARGE = 10**6


def test_the_whole_capital_is_staked_in_shares_below_all_of_it() -> None:
    assert sum(SHARES) == pytest.approx(1)
    assert all(0 < fraction < 1 for fraction in FRACTIONS)


def test_over_all_orders_of_a_text_a_bet_on_its_own_mean_gains_and_loses_nothing() -> None:
    mean = float(TEXT.mean())
    average = numpy.mean([capitals(order, mean, len(TEXT))[:-1] for order in ORDERS], axis=0)
    numpy.testing.assert_allclose(average, 1, rtol=1e-9)
    above = numpy.mean([capitals(order, mean + 0.1, len(TEXT))[:-1] for order in ORDERS], axis=0)
    below = numpy.mean([capitals(order, mean - 0.1, len(TEXT))[:3] for order in ORDERS], axis=0)
    assert (above < 1).all()
    assert (below > 1).all()


@pytest.mark.parametrize("alpha", [0.5, 0.3, 0.1])
def test_over_all_orders_of_a_text_looking_every_time_is_wrong_in_at_most_alpha(alpha: float) -> None:
    mean = float(TEXT.mean())
    reached = [capitals(order, mean, len(TEXT))[:-1].max() >= 1 / alpha for order in ORDERS]
    assert 0 < sum(reached) <= alpha * len(ORDERS)


def test_values_without_a_bet_are_seen_but_gain_nothing() -> None:
    mean = float(TEXT.mean())
    for order in ORDERS[:50]:
        assert capitals(order, mean, len(TEXT), first_bet=3)[:3] == pytest.approx(1)
    average = numpy.mean([capitals(order, mean, len(TEXT), first_bet=3)[:-1] for order in ORDERS], axis=0)
    numpy.testing.assert_allclose(average, 1, rtol=1e-9)


def test_what_cannot_be_otherwise_is_certain() -> None:
    # Six tenths of the text's sum are there already: the mean is above 0.5, whatever follows.
    found = capitals(numpy.array([1.0] * 6), 0.5, 10)
    assert found[5] == math.inf
    assert found[4] < math.inf
    assert mean_above([1.0] * 6, 10, 1e-9) >= 0.6 - 1e-6
    assert mean_below([0.0] * 6, 10, 1e-9) <= 0.4 + 1e-6


def test_the_width_is_that_of_the_exact_bound_with_half_of_alpha() -> None:
    """Ten chunks without a disagreement: the exact bound is 1 - alpha^(1/10), 0.2589 in tables of Clopper and Pearson.

    Half of the capital is staked almost whole, so about that bound for alpha / 2, 0.3085, is what the bets give; the other half helps a little.
    """
    found = mean_below([0.0] * 10, LARGE, 0.05)
    assert found == pytest.approx(0.3085, abs=0.01)
    assert mean_below([0.0] * 10, LARGE, 0.025) == pytest.approx(1 - 0.0125**0.1, abs=0.01)
    # 22, 45 and 299 without one for 12.7 %, 6.4 % and 1 % by the exact bound.
    for count, exact in ((22, 0.1273), (45, 0.0644), (299, 0.00997)):
        assert exact < mean_below([0.0] * count, LARGE, 0.05) < 1.3 * exact


def test_bounds_close_as_the_text_ends_and_mirror_each_other() -> None:
    low, high = ([bound(TEXT[:count], len(TEXT), 0.05) for count in range(1, 8)] for bound in (mean_above, mean_below))
    assert low[0] < low[-1] <= TEXT.mean() <= high[-1] < high[0]
    assert high[-1] - low[-1] < 1e-6
    assert mean_below(TEXT[:4], 7, 0.05) == pytest.approx(1 - mean_above(1 - TEXT[:4], 7, 0.05))


def test_nothing_is_known_of_nothing() -> None:
    assert mean_above([], 7, 0.05) == 0
    assert mean_below([], 7, 0.05) == 1
