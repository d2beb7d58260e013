"""An answer and its rates."""

from pathlib import Path

import pytest

from toolkit.measures.generation import GenerationStats
from toolkit.planning.load_plan import LoadedBytes
from toolkit.render.run import rates_line, run_document
from toolkit.verbs.run import RunResult


@pytest.mark.parametrize(
    ("stats", "line"),
    [
        (
            GenerationStats(1200, 2.0, 5, 0.5, "model"),
            "prompt 1,200 tokens at 600.0 tokens/s, generated 5 at 8.0 tokens/s",
        ),
        (
            GenerationStats(10, 1.0, 3, 0.5, "length"),
            "prompt 10 tokens at 10.0 tokens/s, generated 3 at 4.0 tokens/s; stopped by -n",
        ),
        (
            GenerationStats(10, 1.0, 1, 0.0, "context"),
            "prompt 10 tokens at 10.0 tokens/s, generated 1; the context is full",
        ),
    ],
)
def test_the_line_says_how_fast_it_was_and_why_it_ended(stats, line):
    assert rates_line(stats) == line


def test_a_script_reads_the_answer_the_rates_and_the_devices():
    device = LoadedBytes("CPU", 100, 100, 0, 60, 30, 10, 5)
    result = RunResult(Path("m.gguf"), "Because.", GenerationStats(10, 1.0, 3, 0.5, "length"), (device,))
    document = run_document(result)
    assert (document["model"], document["answer"], document["ended_by"]) == ("m.gguf", "Because.", "length")
    assert (document["prompt_tokens"], document["generated_tokens"]) == (10, 3)
    assert (document["prompt_tokens_per_second"], document["generation_tokens_per_second"]) == (10.0, 4.0)
    assert [(held["name"], held["predicted_bytes"], held["allocated_bytes"]) for held in document["devices"]] == [
        ("CPU", 100, 100)
    ]
