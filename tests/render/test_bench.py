"""Token rates."""

import json
from dataclasses import replace

import pytest

import toolkit
from toolkit.render.bench import bench_document, bench_lines


@pytest.fixture(scope="module")
def result(tiny):
    return toolkit.bench(tiny, n_prompt=[8], n_generate=[0], kv=["f16", "q8_0"], repetitions=2)


def test_every_measurement_is_a_row_and_every_load_says_what_it_holds(result):
    lines = bench_lines(result)
    assert lines[0].split("  ")[0].strip() == "layers"
    rows = lines[1 : lines.index("")]
    assert [row.split()[1] for row in rows] == ["f16", "q8_0"]
    assert all("8: " in row and " ± " in row for row in rows)
    for kv in ("f16", "q8_0"):
        assert any(line.startswith(f"{kv} KV, layers ") and " holds " in line for line in lines)
        assert any(line.startswith(f"{kv} KV, layers ") and "loaded in" in line for line in lines)


def test_one_load_needs_no_name(result):
    lines = bench_lines(replace(result, rows=result.rows[:1]))
    assert any(line.startswith("loaded in") for line in lines)


@pytest.mark.parametrize(
    ("waiting", "words"), [("passive", "passively"), ("active", "actively"), ("spinning", "OpenMP")]
)
def test_how_threads_wait_stands_at_the_end(result, waiting, words):
    assert words in bench_lines(replace(result, thread_waiting=waiting))[-1]


def test_a_script_reads_every_row_and_the_first_one_at_the_top(result):
    document = json.loads(json.dumps(bench_document(result), allow_nan=False))
    first, second = document["results"]
    assert (first["kv_type_k"], second["kv_type_v"]) == ("f16", "q8_0")
    assert document["prompt_tokens_per_second"] == first["prompt_tokens_per_second"] > 0
    assert first["generation_tokens_per_second"] is None
    assert (first["n_prompt"], first["n_generate"], first["n_depth"], first["repetitions"]) == (8, 0, 0, 2)
