"""HTML written by hand: everything that comes from outside is escaped where it enters."""

from collections.abc import Iterable
from html import escape

from toolkit.visible_text import visible


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str | float | None) -> Html:
    """Return an element; children that are no Html are escaped, and attributes that are None left out.

    `class_` and `for_` lose their underscore, and the others stand for hyphens.
    """
    names = {name: name.rstrip("_").replace("_", "-") for name in attributes}
    written = "".join(
        f' {names[name]}="{_escaped(_plain(value))}"' for name, value in attributes.items() if value is not None
    )
    return Html(f"<{tag}{written}>{joined(children)}</{tag}>")


def joined(children: Iterable[str]) -> Html:
    """Return children one after the other."""
    return Html("".join(child if isinstance(child, Html) else _escaped(child) for child in children))


def _escaped(text: str) -> str:
    return escape(visible(text))


def _plain(value: str | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
