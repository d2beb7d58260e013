"""A comparison in every form: text, JSON, CSV, Markdown, and a page. What a row shows is one list: `columns.COLUMNS`.

The page is imported where it is asked for (`page.page_html`), because the others need no template engine.
"""

from toolkit.render.comparison.document import comparison_document
from toolkit.render.comparison.tables import csv_text, markdown_text
from toolkit.render.comparison.text import comparison_lines

__all__ = ["comparison_document", "comparison_lines", "csv_text", "markdown_text"]
