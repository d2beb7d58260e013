"""A comparison as a document, a table for other programs, a table for a model card, and a page."""

from toolkit.report.document import comparison_document, verdict_document
from toolkit.report.page import page_html
from toolkit.report.tables import csv_text, markdown_text

__all__ = ["comparison_document", "csv_text", "markdown_text", "page_html", "verdict_document"]
