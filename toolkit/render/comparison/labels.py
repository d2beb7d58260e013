"""Where the names of points go, so that none lies on another name, on a point, or outside the frame."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_GAP = 13.0
_RINGS = (1.0, 1.8, 2.6, 3.6, 4.8)


@dataclass(frozen=True)
class Box:
    """A rectangle; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        """Return the area that two rectangles share."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)

    def outside(self, frame: "Box") -> float:
        """Return the area that lies outside of a frame."""
        return (self.right - self.left) * (self.bottom - self.top) - self.overlap(frame)


@dataclass(frozen=True)
class Marker:
    """A point with a name of a certain size."""

    x: float
    y: float
    width: float
    height: float


def place_labels(markers: Sequence[Marker], frame: Box, taken: Sequence[Box] = ()) -> list[Box]:
    """Return a box for the name of each marker: the nearest free place around it, or the one that hides least."""
    points = [_around(marker) for marker in markers]
    placed: list[Box] = []
    for marker in markers:
        obstacles = [*points, *taken, *placed]
        placed.append(min(_places(marker), key=lambda box: _cost(box, frame, obstacles)))
    return placed


def _around(marker: Marker) -> Box:
    radius = _GAP / 1.6
    return Box(marker.x - radius, marker.y - radius, marker.x + radius, marker.y + radius)


def _cost(box: Box, frame: Box, obstacles: Sequence[Box]) -> float:
    return 4 * box.outside(frame) + sum(box.overlap(other) for other in obstacles)


def _places(marker: Marker) -> Iterator[Box]:
    """Yield boxes around a marker, the nearest and most usual first; of equal cost the first is taken."""
    for ring in _RINGS:
        gap = _GAP * ring
        middle, centre = marker.y - marker.height / 2, marker.x - marker.width / 2
        above, below = marker.y - gap - marker.height, marker.y + gap
        right, left = marker.x + gap, marker.x - gap - marker.width
        for x, y in (
            (right, middle),
            (right, above + gap / 2),
            (right, below - gap / 2),
            (left, middle),
            (centre, above),
            (centre, below),
            (left, below - gap / 2),
            (left, above + gap / 2),
        ):
            yield Box(x, y, x + marker.width, y + marker.height)
