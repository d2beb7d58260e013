"""Bounds on the mean of bounded values that may be looked at after every value: bets on what is drawn next.

A text has `total` chunks, visited in random order, and each gives a value from 0 to 1. Who believes their mean to be
above m stakes a fraction c of a capital of 1 on the next value x, and has 1 + c (x / m_i - 1) times as much after it,
where m_i is what the chunks that are left must have on average if all of them have m:

    m_i = (total m - sum of the values before) / chunks left

If the mean is m or less, no bet gains on average, so the capital ever reaches 1 / alpha with a probability of at most
alpha (Ville's inequality). This holds for all values in these bounds and any number of them: nothing is assumed of how
they are distributed, and alike neighbours do not matter, because the order is random. The mean is that of this text.

Which fraction wins most depends on the values, so that the capital is shared between several; the mean of their capitals
obeys the same inequality. Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting",
sections 4 and 5 (drawing without replacement), arXiv:2010.09686.
"""

import math
from collections.abc import Sequence

import numpy

from toolkit.measures.divergence_statistics import Doubles

FRACTIONS = (0.99, 0.5, 0.25, 0.12, 0.06)
SHARES = (0.5, 0.2, 0.1, 0.1, 0.1)
"""of the capital: most on the largest fraction, which answers first where values differ little"""
_ROUNDING = 1e-9
"""a difference of means that may come of adding in 64 bits"""
_HALVINGS = 30


def capitals(values: Doubles, mean: float, total: int, first_bet: int = 0) -> Doubles:
    """Return the capital after each value, from 0 to 1, of who bets that the mean of all `total` is above `mean`.

    It is infinite where that is certain. Values before `first_bet` are seen, and nothing is staked on them.
    """
    count = len(values)
    sums = numpy.cumsum(values)
    rest = (total * mean - (sums - values)) / (total - numpy.arange(count))
    returns = values / numpy.maximum(rest, _ROUNDING) - 1
    returns[:first_bet] = 0
    logarithms = numpy.log1p(numpy.outer(FRACTIONS, returns)).cumsum(axis=1)
    largest = logarithms.max(axis=0)
    shared = numpy.asarray(SHARES) @ numpy.exp(logarithms - largest)
    with numpy.errstate(over="ignore"):
        capital: Doubles = numpy.exp(largest + numpy.log(shared))
    capital[sums > total * (mean + _ROUNDING)] = math.inf
    return capital


def mean_above(values: Sequence[float] | Doubles, total: int, alpha: float, first_bet: int = 0) -> float:
    """Return what the mean of all `total` values from 0 to 1 is above, wrong in at most `alpha` however often one looks."""
    seen = numpy.asarray(values, numpy.float64)
    above, not_above = 0.0, 1.0
    for _ in range(_HALVINGS if len(seen) else 0):
        middle = (above + not_above) / 2
        # The capital falls as the mean that is bet against rises.
        if capitals(seen, middle, total, first_bet).max() >= 1 / alpha:
            above = middle
        else:
            not_above = middle
    return above


def mean_below(values: Sequence[float] | Doubles, total: int, alpha: float, first_bet: int = 0) -> float:
    """Return what the mean is below, in the same sense."""
    return 1 - mean_above(1 - numpy.asarray(values, numpy.float64), total, alpha, first_bet)
