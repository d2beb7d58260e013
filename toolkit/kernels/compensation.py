"""Codes for a run of columns, each error made up for by the columns after it; then single steps downhill.

The loss of a row is e H e^T: e is what its values are off by, H [n, n] the second moment of what it is multiplied with.
`compensate` is the loop of GPTQ (Frantar et al., 2022) with the scales given; `descend` lowers the same loss one field at
a time. Both work on some columns of many rows and know nothing of the bytes that the fields are stored in.
"""

import math
from typing import Any, NamedTuple

import numpy
from numpy.typing import NDArray

from toolkit.kernels.compiling import Bytes, Floats, inlined, reordered

Integers = NDArray[numpy.int32]
LARGEST_HALF = numpy.float32(65504.0)


@inlined
def nearest_code(level: numpy.float32, levels: Floats, is_linear: bool) -> int:
    """Return the index of the level that is nearest to a number."""
    last = len(levels) - 1
    if is_linear:
        place = numpy.rint(level - levels[0])
        return int(min(max(place, numpy.float32(0)), numpy.float32(last)))
    best = 0
    for index in range(1, last + 1):
        # Between two levels the middle decides.
        if level * 2 > levels[index - 1] + levels[index]:
            best = index
    return best


@inlined
def to_half(value: numpy.float32) -> numpy.float32:
    """Return the nearest number that a half can hold, for values up to LARGEST_HALF."""
    if value == 0:
        return value
    mantissa, exponent = math.frexp(value)
    if exponent < -13:
        return numpy.float32(numpy.rint(value * 16777216.0) / 16777216.0)
    return numpy.float32(math.ldexp(numpy.rint(mantissa * 2048.0), exponent - 11))


class Grid(NamedTuple):
    """What the fields of a type may be."""

    levels: Floats
    """float32, ascending"""
    is_linear: bool
    """whether neighbouring levels are 1 apart"""
    block_length: int
    group_length: int
    lowest_scale: int
    highest_scale: int
    """equal where there is no whole number"""
    highest_minimum: int
    """0 where there is no minimum"""


@reordered
def compensate(targets: Floats, spread: Floats, scales: Floats, minima: Floats, grid: Grid) -> tuple[Bytes, Floats]:
    """Choose codes from left to right; return them, uint8 [n, columns], and errors, float32 [n, columns].

    `targets` [n, columns] are the weights; what later ones have to make up for is taken off them on the way, so that they
    end as the numbers that were rounded. `spread` [columns, columns] is upper triangular, the factor U of the inverse of H.
    `scales` and `minima` [n, sub-blocks] are multiplied with levels and taken off. An error is (target - value) / U[j, j],
    and the sum of their squares is the loss.
    """
    codes = numpy.empty(targets.shape, numpy.uint8)
    errors = numpy.empty(targets.shape, numpy.float32)
    columns = targets.shape[1]
    for row in range(len(targets)):
        for j in range(columns):
            scale, minimum = scales[row, j // grid.group_length], minima[row, j // grid.group_length]
            target = targets[row, j]
            code = nearest_code((target + minimum) / scale, grid.levels, grid.is_linear) if scale != 0 else 0
            error = (target - (scale * grid.levels[code] - minimum)) / spread[j, j]
            codes[row, j], errors[row, j] = code, error
            for k in range(j + 1, columns):
                targets[row, k] -= error * spread[j, k]
    return codes, errors


class Rows(NamedTuple):
    """Fields of rows [n, ...], as QuantFields has them, and what the values that they give are off by."""

    d: Floats
    dmin: Floats
    scales: Integers
    minima: Integers
    codes: Bytes
    errors: Floats
    """float32 [n, row length]"""


class _Row(NamedTuple):
    """The part of a row that is worked on: some whole blocks, and the gradient G = e H of their columns."""

    d: Floats
    dmin: Floats
    scales: Integers
    minima: Integers
    codes: Bytes
    errors: Floats
    gradient: Floats


class Run(NamedTuple):
    """Columns that are worked on together: whole quant blocks."""

    start: int
    form: Floats
    """float32 [columns, columns], their part of H"""
    gradients: Floats
    """float32 [n, columns], the products of all errors with these columns of H"""


@reordered
def descend(rows: Rows, grid: Grid, run: Run, sweeps: int) -> float:
    """Step downhill in some columns, in so many sweeps at most; return what that gained.

    Fields, errors and gradients change in place.
    """
    start, form, gradients = run.start, run.form, run.gradients
    columns = len(form)
    first, last = start // grid.block_length, (start + columns) // grid.block_length
    groups = grid.block_length // grid.group_length
    direction = numpy.empty(grid.block_length, numpy.float32)
    gained: Any = 0.0
    for index in range(len(gradients)):
        row = _Row(
            rows.d[index, first:last],
            rows.dmin[index, first:last],
            rows.scales[index, first * groups : last * groups],
            rows.minima[index, first * groups : last * groups],
            rows.codes[index, start : start + columns],
            rows.errors[index, start : start + columns],
            gradients[index],
        )
        for _ in range(sweeps):
            gain = numpy.float32(0)
            for block in range(last - first):
                gain += _move_halves(row, grid, form, block, direction)
                gain += _move_whole_numbers(row, grid, form, block, direction)
                gain += _move_codes(row, grid, form, block)
            gained += gain
            if gain == 0:
                break
    return float(gained)


@reordered
def _move_halves(row: _Row, grid: Grid, form: Floats, block: int, direction: Floats) -> numpy.float32:
    """Move d, then dmin, of a quant block to the best half; return what that gained."""
    gain = numpy.float32(0)
    start = block * grid.block_length
    groups = grid.block_length // grid.group_length
    for of_minimum in range(2 if grid.highest_minimum else 1):
        for k in range(grid.block_length):
            group = block * groups + k // grid.group_length
            level = grid.levels[row.codes[start + k]]
            direction[k] = -row.minima[group] if of_minimum else row.scales[group] * level
        slope, bend = _slope_and_bend(direction, row.gradient, form, start)
        halves = row.dmin if of_minimum else row.d
        wanted = numpy.float32(halves[block] - slope / bend) if bend > 0 else numpy.float32(0)
        if bend <= 0 or abs(wanted) > LARGEST_HALF:
            continue
        rounded = to_half(wanted)
        step = rounded - halves[block]
        change = 2 * step * slope + step * step * bend
        if change < 0:
            halves[block] = rounded
            _take(direction, step, row, form, start)
            gain -= change
    return gain


@reordered
def _move_whole_numbers(row: _Row, grid: Grid, form: Floats, block: int, direction: Floats) -> numpy.float32:
    """Move the scale, then the minimum, of each sub-block to the best whole number; return what that gained."""
    gain = numpy.float32(0)
    if grid.highest_scale == grid.lowest_scale:
        return gain
    groups = grid.block_length // grid.group_length
    for group in range(block * groups, (block + 1) * groups):
        start = group * grid.group_length
        for of_minimum in range(2 if grid.highest_minimum else 1):
            for k in range(grid.group_length):
                level = grid.levels[row.codes[start + k]]
                direction[k] = -row.dmin[block] if of_minimum else row.d[block] * level
            slope, bend = _slope_and_bend(direction[: grid.group_length], row.gradient, form, start)
            if bend <= 0:
                continue
            numbers = row.minima if of_minimum else row.scales
            lowest = 0 if of_minimum else grid.lowest_scale
            highest = grid.highest_minimum if of_minimum else grid.highest_scale
            wanted = numpy.rint(numbers[group] - slope / bend)
            number = int(min(max(wanted, numpy.float32(lowest)), numpy.float32(highest)))
            step = numpy.float32(number - numbers[group])
            change = 2 * step * slope + step * step * bend
            if change < 0:
                numbers[group] = number
                _take(direction[: grid.group_length], step, row, form, start)
                gain -= change
    return gain


@reordered
def _move_codes(row: _Row, grid: Grid, form: Floats, block: int) -> numpy.float32:
    """Move each code of a quant block to the best level; return what that gained."""
    gain = numpy.float32(0)
    groups = grid.block_length // grid.group_length
    for k in range(grid.block_length):
        j = block * grid.block_length + k
        scale = row.d[block] * row.scales[block * groups + k // grid.group_length]
        if scale == 0 or form[j, j] <= 0:
            continue
        level = grid.levels[row.codes[j]]
        code = nearest_code(level - row.gradient[j] / (scale * form[j, j]), grid.levels, grid.is_linear)
        step = scale * (grid.levels[code] - level)
        change = 2 * step * row.gradient[j] + step * step * form[j, j]
        if change < 0:
            row.codes[j] = code
            row.errors[j] += step
            gain -= change
            for i in range(len(row.gradient)):
                row.gradient[i] += step * form[j, i]
    return gain


@reordered
def _slope_and_bend(
    direction: Floats, gradient: Floats, form: Floats, start: int
) -> tuple[numpy.float32, numpy.float32]:
    """Return a.G and a H a^T for a direction a of the columns from `start` on."""
    slope, bend = numpy.float32(0), numpy.float32(0)
    for j in range(len(direction)):
        weight = direction[j]
        if weight != 0:
            slope += weight * gradient[start + j]
            product = numpy.float32(0)
            for k in range(len(direction)):
                product += direction[k] * form[start + j, start + k]
            bend += weight * product
    return slope, bend


@reordered
def _take(direction: Floats, step: numpy.float32, row: _Row, form: Floats, start: int) -> None:
    """Go a step in a direction from a column on, and keep error and gradient true."""
    for j in range(len(direction)):
        change = step * direction[j]
        if change != 0:
            row.errors[start + j] += change
            for i in range(len(row.gradient)):
                row.gradient[i] += change * form[start + j, i]
