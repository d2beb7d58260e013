import csv
import io
import json
from dataclasses import replace

from made_up_comparison import KEY, comparison, divergence, ladder, quality, row

from toolkit.render.comparison import comparison_document, csv_text, markdown_text


def test_the_document_has_the_keys_that_scripts_rely_on() -> None:
    document = comparison_document(comparison())
    json.dumps(document)
    chosen = next(found for found in document["rows"] if found["advised"])
    assert (chosen["name"], chosen["pareto"], chosen["kv_type_k"], chosen["kv_type_v"]) == (
        "Q4_K_M",
        True,
        "f16",
        "f16",
    )
    assert chosen["mean_kld"] == 0.0313
    assert chosen["differs_from_the_row_above"]["answer"] == "yes"
    assert {
        "file_bytes",
        "bits_per_weight",
        "n_gpu_layers",
        "fits",
        "same_top_fraction",
        "perplexity_ratio",
    } <= chosen.keys()
    assert {"name", "budget_bytes", "weights_bytes", "kv_cache_bytes", "compute_bytes"} <= chosen["devices"][0].keys()
    general = next(found for found in chosen["verdicts"] if found["use"] == "general")
    assert (general["level"], general["certain"]) == ("good", True)
    assert general["findings"][0]["source"].startswith("https://")
    assert [found["level"] for found in chosen["verdicts"]].count("unknown") == 5
    base = document["rows"][0]
    assert (base["is_base"], base["mean_kld"], base["verdicts"], base["fits"]) == (True, None, [], False)


def test_comma_separated_values_are_one_line_a_row_with_a_verdict_for_every_use() -> None:
    made = comparison([*ladder(), replace(row("=cmd|' /C calc'!A1", 4, 4, 0.2), error="failed")])
    lines = list(csv.DictReader(io.StringIO(csv_text(made))))
    assert [line["name"] for line in lines[:3]] == ["BF16", "Q8_0", "Q6_K"]
    assert float(lines[4]["mean_kld"]) == 0.0313
    assert (lines[4]["advised"], lines[4]["verdict_general"], lines[4]["verdict_code"]) == ("true", "good", "unknown")
    assert lines[7]["verdict_general"] == "not advised"
    # No spreadsheet takes a name for a formula.
    assert lines[8]["name"].startswith("'=")


def test_the_table_for_a_model_card_is_markdown_that_no_name_breaks() -> None:
    nasty = replace(row("a|b_c*<d>", 4, 4.5, 0.01), qualities=(quality(divergence(0.01)),))
    text = markdown_text(comparison([*ladder(), nasty]))
    head, rule, *rest = [line for line in text.splitlines() if line.startswith("|")]
    assert head.startswith("| File | Size | Bits | VRAM at 4k | PPL | Mean KLD |")
    assert set(rule) <= set("|-:")
    assert len(rest) == 9
    assert all(line.replace("\\|", "").count("|") == head.count("|") for line in rest)
    assert "| **a\\|b\\_c\\*\\<d>** \\* |" in rest[-1]
    assert "**Take a\\|b" in text
    assert "SHA-256 4a862675969b2eca" in text
    assert "llama-cpp-python 0.3.36" in text


def test_what_cannot_be_ranked_and_what_failed_is_said_below() -> None:
    strange = replace(row("other", 4, 5, 0.01), qualities=(quality(None, key=replace(KEY, vocabulary="another")),))
    failed = replace(row("bad", 4, 5, 0.01), qualities=(), error="logits are not finite")
    text = markdown_text(comparison([*ladder(), strange, failed]))
    assert "other is not ranked: it has another vocabulary" in text
    assert "bad failed: logits are not finite" in text


def test_every_value_stands_below_its_title() -> None:
    one = row("Q4_K_M", 4, 4.9, 0.03, same_top=0.93)
    head, _, line = [
        line.strip("| ").split(" | ") for line in markdown_text(comparison([one])).splitlines() if line.startswith("|")
    ]
    cells = dict(zip(head, line, strict=True))
    assert cells == {
        "File": "**Q4\\_K\\_M** \\*",
        "Size": "4.00 GiB",
        "Bits": "4.90",
        "VRAM at 4k": "4.75 GiB",
        "PPL": "6.323 ± 0.040",
        "Mean KLD": "0.03000 ± 0.00030",
        "99.9 % KLD": "0.45",
        "Same top": "93.0 %",
        "pp512": "500",
        "tg128": "50.0",
        "For general text": "good",
    }


def test_a_verdict_that_the_error_leaves_open_has_a_question_mark() -> None:
    for same_top, shown in ((0.93, "| good |"), (0.9, "| good? |")):
        assert shown in markdown_text(comparison([row("Q4_K_M", 4, 4.9, 0.03, same_top=same_top)]))
