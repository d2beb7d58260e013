"""One list of columns serves every form."""

import csv
import io
import subprocess
import sys
from collections import Counter
from dataclasses import replace

from made_up_comparison import comparison, ladder

from toolkit.render.comparison import comparison_document, comparison_lines, csv_text, markdown_text
from toolkit.render.comparison.columns import COLUMNS
from toolkit.render.comparison.page import page_of
from toolkit.render.comparison.view import ComparisonView


def test_every_column_stands_in_the_forms_that_it_has_a_heading_or_a_key_for() -> None:
    made = comparison()
    words = ComparisonView(made).words
    text = [column.text.format(**words).strip() for column in COLUMNS if column.text]
    assert any(line.split() == " ".join(text).split() for line in comparison_lines(made))
    markdown = [column.markdown.format(**words) for column in COLUMNS if column.markdown]
    assert f"| {' | '.join(markdown)} |" in markdown_text(made)
    page = [column.page.format(**words) for column in COLUMNS if column.page]
    assert [heading.title for heading in page_of(made).headings] == page
    for row in comparison_document(made)["rows"]:
        assert set(row) == {key for column in COLUMNS for key in (*column.values, *column.figures)}
    [header, *_] = csv.reader(io.StringIO(csv_text(made)))
    keys = [key for column in COLUMNS for key in column.csv_keys]
    assert header == keys + [f"verdict_{use.name}" for use in made.rules.use_cases]


def test_without_a_plan_of_memory_its_numbers_are_left_out_and_the_csv_has_empty_cells() -> None:
    made = comparison([replace(ladder()[4], memory=None)])
    row = comparison_document(made)["rows"][0]
    assert (row["n_gpu_layers"], row["fits"], row["devices"]) == (None, None, [])
    assert {"gpu_bytes", "answered_by", "n_layers", "fits_whole", "missing_bytes"}.isdisjoint(row)
    [line] = csv.DictReader(io.StringIO(csv_text(made)))
    assert (line["gpu_bytes"], line["n_gpu_layers"]) == ("", "")


def test_no_key_is_given_twice_and_what_the_csv_leaves_out_is_there() -> None:
    keys = Counter(key for column in COLUMNS for key in (*column.values, *column.figures))
    assert max(keys.values()) == 1
    assert all(column.json_only <= {*column.values, *column.figures} for column in COLUMNS)


def test_the_figures_of_the_first_text_are_those_of_the_row() -> None:
    row = comparison_document(comparison([ladder()[4]]))["rows"][0]
    figures = {key for column in COLUMNS for key in column.figures}
    assert {key: row["texts"][0][key] for key in figures} == {key: row[key] for key in figures}
    assert row["mean_kld"] == 0.0313


def test_a_template_engine_is_loaded_for_the_page_only() -> None:
    script = (
        "import sys, toolkit.cli.compare, toolkit.render.comparison, toolkit.render.fit; print('jinja2' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("False", "")
