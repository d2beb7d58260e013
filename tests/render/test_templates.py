"""What templates show is escaped, and a template that names what is not there is an error."""

import pytest
from jinja2 import UndefinedError

from toolkit.render.comparison.bars import Bar
from toolkit.render.templates import rendered

PACKAGE = "toolkit.render.comparison"


def test_text_is_escaped_and_does_not_steer_who_reads_it() -> None:
    html = rendered(PACKAGE, "bar.html.j2", bar=Bar("<b>&\u202e", "1", "x", [], limits=[12.345]))
    assert '<span class="name">&lt;b&gt;&amp;\\u202e</span>' in html
    assert '<rect x="12.35%"' in html or '<rect x="12.34%"' in html


def test_what_is_missing_or_none_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        rendered(PACKAGE, "bar.html.j2")
    with pytest.raises(TypeError, match="None"):
        rendered(PACKAGE, "bar.html.j2", bar=Bar("a", None, "x", []))  # type: ignore[arg-type]
