"""jinja2, where a page is rendered: everything that comes from outside is escaped, and nothing unknown is left out."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from toolkit.visible_text import visible


def rendered(package: str, template: str, **context: Any) -> str:
    """Return a template of the folder `templates` of a package, filled in.

    Raises jinja2.UndefinedError if it names what is not there.
    """
    return _environment(package).get_template(template).render(context)


@cache
def _environment(package: str) -> Environment:
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _shown(value: object) -> object:
    """Return a value as it stands in a page: numbers with two decimals at most, text that steers nothing."""
    if hasattr(value, "__html__"):
        return value  # markup already
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    if value is None:
        raise TypeError("a template shows a value that is None")
    return visible(str(value))
