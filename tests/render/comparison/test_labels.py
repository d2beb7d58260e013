from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_comparison import comparison, ladder, row

from toolkit.comparison.ranking import advise
from toolkit.render.comparison.labels import Box, Marker, place_labels
from toolkit.render.comparison.page import PACKAGE
from toolkit.render.comparison.picture import NARROW, WIDE, Canvas, draw, points_of
from toolkit.render.templates import rendered

FRAME = Box(0, 0, 800, 400)


def scatter(*drawn: Any) -> str:
    return rendered(PACKAGE, "picture.svg.j2", picture=draw(*drawn))


def test_a_name_stands_to_the_right_where_there_is_room_and_to_the_left_at_the_edge() -> None:
    [free] = place_labels([Marker(100, 200, 60, 16)], FRAME)
    assert free.left > 100
    [edge] = place_labels([Marker(780, 200, 60, 16)], FRAME)
    assert edge.right < 780


def test_names_keep_off_each_other_and_off_points_and_of_what_is_taken() -> None:
    markers = [Marker(400 + 12 * number, 200 + 4 * number, 70, 16) for number in range(5)]
    taken = [Box(480, 150, 800, 260)]
    boxes = place_labels(markers, FRAME, taken)
    for one, other in combinations([*boxes, *taken], 2):
        assert one.overlap(other) == 0
    for box in boxes:
        assert box.outside(FRAME) == 0
        assert not any(box.left < one.x < box.right and box.top < one.y < box.bottom for one in markers)


@given(st.lists(st.tuples(st.floats(0, 800), st.floats(0, 400)), min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_every_point_gets_a_name_near_it(places: list[tuple[float, float]]) -> None:
    markers = [Marker(x, y, 60, 16) for x, y in places]
    boxes = place_labels(markers, FRAME)
    assert len(boxes) == len(markers)
    for marker, box in zip(markers, boxes, strict=True):
        assert abs((box.left + box.right) / 2 - marker.x) < 100
        assert abs((box.top + box.bottom) / 2 - marker.y) < 80


@pytest.mark.parametrize("canvas", [WIDE, NARROW], ids=["wide", "narrow"])
def test_the_picture_has_a_point_and_a_name_for_every_file_and_a_line_through_the_front(canvas: Canvas) -> None:
    made = comparison([*ladder(), row("Q4_1", 4.8, 5.1, 0.05)])
    points = points_of(made, advise(made).row)
    picture = scatter(points, [("good up to 0.05", 0.05)], canvas, "Size of the file")
    assert [point.label for point in points if not point.on_front] == ["Q4_1"]
    assert picture.count('class="point on"') == 7
    assert picture.count('class="point"') == 1
    assert picture.count('class="ring"') == 1
    [line] = [part for part in picture.split("<") if part.startswith("polyline")]
    assert line.count(",") == 7
    for point in points:
        assert f">{point.label}</text>" in picture
    assert ">good up to 0.05</text>" in picture


def test_one_size_for_all_still_has_an_axis() -> None:
    made = comparison([row("A", 4, 4.5, 0.02), row("B", 4, 4.5, 0.04)])
    picture = scatter(points_of(made, None), [], WIDE, "Size of the file")
    assert "nan" not in picture
    assert "GiB" in picture


def test_a_name_does_not_cover_the_next_point() -> None:
    first, second = place_labels([Marker(100, 200, 60, 16), Marker(140, 200, 60, 16)], FRAME)
    for box in (first, second):
        assert not any(box.left < x < box.right and box.top < 200 < box.bottom for x in (100, 140))
