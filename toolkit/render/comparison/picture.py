"""The picture of size against divergence, with the line of the files that no other beats."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from toolkit.comparison.figures import DEVIATIONS
from toolkit.comparison.ranking import pareto_rows
from toolkit.comparison.rows import Comparison, Row
from toolkit.render.comparison.labels import Box, Marker, place_labels
from toolkit.units import GIB, KIB, MIB

_LETTER = 0.62
"""Width of a letter by the size of its font: a little more than most are."""
_PADDING = 0.12
"""of the range of sizes, left and right"""
_STEP = 6.0


@dataclass(frozen=True)
class Canvas:
    """The size of a picture and of its letters, in pixels."""

    width: float
    height: float
    font: float
    name: str

    @property
    def frame(self) -> Box:
        """Return the rectangle that points lie in."""
        return Box(4.2 * self.font, 0.9 * self.font, self.width - 6, self.height - 3.6 * self.font)

    def shortened(self, name: str) -> str:
        """Return a name without its middle where it would take more than a third of the picture."""
        most = int(self.width / 3 / (_LETTER * self.font))
        return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[len(name) - (most - most // 2) :]}"


WIDE = Canvas(1040, 430, 14, "wide")
NARROW = Canvas(343, 330, 11.5, "narrow")


@dataclass(frozen=True)
class Point:
    """A row in the picture."""

    label: str
    cost_bytes: int
    divergence: float
    error: float
    on_front: bool
    is_advised: bool


@dataclass(frozen=True)
class Line:
    """A straight line, in pixels."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Text:
    """A text, and which of its ends lies at x."""

    text: str
    x: float
    y: float
    anchor: str
    css_class: str = ""


@dataclass(frozen=True)
class Mark:
    """A point with the interval of its divergence."""

    x: float
    y: float
    error: Line
    css_class: str
    is_advised: bool


@dataclass(frozen=True)
class Picture:
    """All that `picture.svg.j2` draws."""

    canvas: Canvas
    title: str
    description: str
    grid: Sequence[Line]
    axis_texts: Sequence[Text]
    limit_lines: Sequence[Line]
    limit_texts: Sequence[Text]
    front: str
    """corners of the line through the files that no other beats"""
    marks: Sequence[Mark]
    leaders: Sequence[Line]
    names: Sequence[Text]


@dataclass(frozen=True)
class _Axes:
    frame: Box
    bytes_range: tuple[float, float]
    log_range: tuple[float, float]

    def x(self, n_bytes: float) -> float:
        low, high = self.bytes_range
        return self.frame.left + (n_bytes - low) / (high - low) * (self.frame.right - self.frame.left)

    def y(self, divergence: float) -> float:
        low, high = self.log_range
        place = (math.log10(max(divergence, 10**low)) - low) / (high - low)
        return self.frame.bottom - place * (self.frame.bottom - self.frame.top)


def points_of(comparison: Comparison, advised: Row | None) -> list[Point]:
    """Return the rows that have a place in the picture: those with a divergence above what the base's storage hides."""
    front = pareto_rows(comparison)
    return [
        Point(
            comparison.label(row),
            comparison.cost_bytes(row),
            max(row.divergence.mean.value, row.divergence.rounding / 10),
            row.divergence.mean.error,
            number in front,
            row is advised,
        )
        for number, row in enumerate(comparison.rows)
        if row.divergence is not None and not row.is_base
    ]


def draw(points: Sequence[Point], limits: Sequence[tuple[str, float]], canvas: Canvas, cost: str) -> Picture:
    """Return where everything lies; `limits` are thresholds of the divergence with their names, `cost` what x is."""
    axes = _axes(points, limits, canvas)
    shown = [(name, value) for name, value in limits if axes.log_range[0] <= math.log10(value) <= axes.log_range[1]]
    grid, axis_texts = _grid(axes, canvas, cost)
    limit_lines, limit_texts, taken = _limits(shown, axes, canvas)
    leaders, names = _names(points, axes, canvas, taken)
    return Picture(
        canvas=canvas,
        title=f"{cost} against mean KL divergence",
        description=_described(points),
        grid=grid,
        axis_texts=axis_texts,
        limit_lines=limit_lines,
        limit_texts=limit_texts,
        front=" ".join(f"{x:.1f},{y:.1f}" for x, y in _corners(points, axes)),
        marks=[_mark(point, axes) for point in points],
        leaders=leaders,
        names=names,
    )


def _axes(points: Sequence[Point], limits: Sequence[tuple[str, float]], canvas: Canvas) -> _Axes:
    sizes = [point.cost_bytes for point in points]
    padding = _PADDING * (max(sizes) - min(sizes)) or 0.1 * max(sizes)
    logs = [math.log10(point.divergence) for point in points]
    # A threshold just beyond the points belongs in the picture; one far away would only squeeze them.
    near = [math.log10(value) for _, value in limits if min(logs) - 0.5 <= math.log10(value) <= max(logs) + 0.5]
    low, high = min(logs + near), max(logs + near)
    margin = max(0.15, 0.08 * (high - low))
    return _Axes(
        canvas.frame, (max(0.0, min(sizes) - padding), max(sizes) + 1.6 * padding), (low - margin, high + margin)
    )


def _grid(axes: _Axes, canvas: Canvas, cost: str) -> tuple[list[Line], list[Text]]:
    frame = axes.frame
    lines, texts = [], []
    for value in _log_ticks(axes.log_range):
        y = axes.y(value)
        lines.append(Line(frame.left, y, frame.right, y))
        texts.append(Text(f"{value:g}", frame.left - 8, y + canvas.font * 0.35, "end"))
    unit, name = _unit(axes.bytes_range[1])
    for value in _ticks(axes.bytes_range[0] / unit, axes.bytes_range[1] / unit, 4 if canvas.width < 500 else 8):
        texts.append(Text(f"{value:g}", axes.x(value * unit), frame.bottom + 1.5 * canvas.font, "middle"))
    lines.append(Line(frame.left, frame.bottom, frame.right, frame.bottom))
    texts.append(Text(f"{cost}, {name}", frame.right, canvas.height - 0.5 * canvas.font, "end"))
    return lines, texts


def _limits(
    limits: Sequence[tuple[str, float]], axes: _Axes, canvas: Canvas
) -> tuple[list[Line], list[Text], list[Box]]:
    frame = axes.frame
    lines, texts, taken = [], [], []
    for name, value in limits:
        y, width = axes.y(value), _width(name, canvas.font)
        lines.append(Line(frame.left, y, frame.right, y))
        texts.append(Text(name, frame.right, y - 0.4 * canvas.font, "end"))
        taken.append(Box(frame.right - width, y - 1.4 * canvas.font, frame.right, y))
    return lines, texts, taken


def _along_the_front(points: Sequence[Point], axes: _Axes) -> list[Box]:
    """Return small boxes on the line, which names keep off as well."""
    boxes = []
    for (x1, y1), (x2, y2) in pairwise(_corners(points, axes)):
        steps = max(1, int(math.hypot(x2 - x1, y2 - y1) / _STEP))
        for step in range(steps):
            x, y = x1 + (x2 - x1) * step / steps, y1 + (y2 - y1) * step / steps
            boxes.append(Box(x - 2, y - 2, x + 2, y + 2))
    return boxes


def _corners(points: Sequence[Point], axes: _Axes) -> list[tuple[float, float]]:
    on_front = sorted((point.cost_bytes, point.divergence) for point in points if point.on_front)
    return [(axes.x(n_bytes), axes.y(divergence)) for n_bytes, divergence in on_front]


def _mark(point: Point, axes: _Axes) -> Mark:
    x, y = axes.x(point.cost_bytes), axes.y(point.divergence)
    radius = DEVIATIONS * point.error
    above, below = axes.y(point.divergence + radius), axes.y(max(point.divergence - radius, point.divergence / 10))
    css_class = "point on" if point.on_front else "point"
    return Mark(x, y, Line(x, above, x, below), css_class, point.is_advised)


def _names(points: Sequence[Point], axes: _Axes, canvas: Canvas, taken: Sequence[Box]) -> tuple[list[Line], list[Text]]:
    markers = [
        Marker(
            axes.x(point.cost_bytes),
            axes.y(point.divergence),
            _width(canvas.shortened(point.label), canvas.font),
            1.3 * canvas.font,
        )
        for point in points
    ]
    frame = Box(axes.frame.left, axes.frame.top - canvas.font, axes.frame.right, axes.frame.bottom)
    boxes = place_labels(markers, frame, [*taken, *_along_the_front(points, axes)])
    leaders = [line for marker, box in zip(markers, boxes, strict=True) if (line := _leader(marker, box)) is not None]
    names = [_name(*of_one, canvas) for of_one in zip(points, markers, boxes, strict=True)]
    return leaders, names


def _name(point: Point, marker: Marker, box: Box, canvas: Canvas) -> Text:
    # The width is a guess: anchored at the end that is nearer, the name keeps its distance from the point.
    anchor, x = ("start", box.left) if box.left >= marker.x else ("end", box.right)
    if box.left < marker.x < box.right:
        anchor, x = "middle", (box.left + box.right) / 2
    css_class = "chosen" if point.is_advised else ""
    return Text(canvas.shortened(point.label), x, box.bottom - 0.3 * canvas.font, anchor, css_class)


def _leader(marker: Marker, box: Box) -> Line | None:
    """Return a line from a point to a name that is not close by."""
    x = min(max(marker.x, box.left), box.right)
    y = min(max(marker.y, box.top), box.bottom)
    return None if math.hypot(x - marker.x, y - marker.y) < 16 else Line(marker.x, marker.y, x, y)


def _width(text: str, font: float) -> float:
    return _LETTER * font * len(text)


def _unit(n_bytes: float) -> tuple[int, str]:
    for unit, name in ((GIB, "GiB"), (MIB, "MiB")):
        if n_bytes >= 1.5 * unit:
            return unit, name
    return KIB, "KiB"


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Return round numbers between two values, about so many."""
    raw = (high - low) / about
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(log_range: tuple[float, float]) -> list[float]:
    low, high = log_range
    for factors in ((1, 2, 5), (1, 3), (1,)):
        values = [factor * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for factor in factors]
        ticks = [value for value in values if low <= math.log10(value) <= high]
        if len(ticks) <= 8:
            return ticks
    return ticks


def _described(points: Sequence[Point]) -> str:
    """Return the picture in words, for those who do not see it."""
    return "; ".join(
        f"{point.label}: {point.cost_bytes:,} bytes, mean KLD {point.divergence:.4f}"
        + (", no other file beats it" if point.on_front else "")
        for point in points
    )
