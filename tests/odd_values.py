"""Every value of a JSON document, replaced in turn."""

from collections.abc import Collection, Iterator
from typing import Any

Place = tuple[Any, ...]


def places(content: Any, closed: Collection[Place] = (), before: Place = ()) -> Iterator[Place]:
    """Yield the way to every value inside objects and lists, but to none below a place that is `closed`."""
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in entries:
        place = (*before, key)
        yield place
        if place not in closed:
            yield from places(value, closed, place)


def with_value(content: Any, place: Place, value: Any) -> Any:
    """Return the document with another value in one place."""
    if not place:
        return value
    changed = dict(content) if isinstance(content, dict) else list(content)
    changed[place[0]] = with_value(content[place[0]], place[1:], value)
    return changed
