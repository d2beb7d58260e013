import math
from dataclasses import replace

import pytest
from made_up_comparison import GIB, KEY, base_row, comparison, divergence, ladder, memory, quality, row

from toolkit.comparison.ranking import advise, differences, pareto_rows, why_not_ranked
from toolkit.comparison.rows import Row
from toolkit.measures.paired import interval
from toolkit.measures.verdict_rules import Level


def names(rows: list[Row], numbers: frozenset[int]) -> list[str]:
    return [rows[number].name for number in sorted(numbers)]


def test_the_front_holds_what_no_other_file_beats_in_both() -> None:
    rows = [*ladder(), row("Q4_1", 4.8, 5.1, 0.05)]
    found = names(rows, pareto_rows(comparison(rows)))
    # Q4_K_M is smaller than Q4_1 and diverges less; Q4_0 diverges more but is smaller still.
    assert found == ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K"]


def test_the_base_and_what_was_not_measured_are_not_on_the_front() -> None:
    rows = [base_row(), replace(row("Q8_0", 8, 8.5, 0.001), qualities=()), row("Q4_K_M", 4.6, 4.9, 0.03)]
    assert names(rows, pareto_rows(comparison(rows))) == ["Q4_K_M"]


def test_where_kv_types_differ_memory_is_the_price_and_not_the_file() -> None:
    big, small = row("Q4_K_M", 4.6, 4.9, 0.03), replace(row("Q4_K_M", 4.6, 4.9, 0.035), kv="q8_0")
    small = replace(small, memory=memory(4 * GIB))
    made = comparison([base_row(), big, small])
    assert pareto_rows(made) == {1, 2}
    assert made.label(small) == "Q4_K_M, q8_0 KV"
    assert pareto_rows(comparison([base_row(), big, replace(small, kv="f16", file_bytes=big.file_bytes)])) == {1}


def test_rows_are_told_apart_chunk_by_chunk() -> None:
    rows = ladder()
    answers = [found.answer if found is not None else None for found in differences(rows)]
    assert answers == [None, None, "yes", "yes", "yes", "yes", "yes", "yes"]
    found = differences(rows)[2]
    assert found is not None
    assert found.by.mean == pytest.approx(0.0041)
    assert 0 < found.by.low < found.by.mean < found.by.high


def test_a_difference_that_no_one_would_see_is_none_and_an_uncertain_one_is_undecided() -> None:
    one, same = row("A", 5, 5, 0.03), row("B", 4.9, 5, 0.0301)
    assert [found and found.answer for found in differences([one, same])] == [None, "no"]
    few = replace(same, qualities=(quality(divergence(0.06, chunks=5), key=replace(KEY, chunks=5)),))
    short = replace(one, qualities=(quality(divergence(0.03, chunks=5), key=replace(KEY, chunks=5)),))
    assert [found and found.answer for found in differences([short, few])] == [None, "undecided"]


def test_eight_rows_share_the_rate_of_errors_between_seven_answers() -> None:
    rows = [row(f"Q{number}", 9 - number, 5, 0.01 * number) for number in range(1, 9)]
    found = differences(rows)[1]
    assert found is not None
    assert rows[0].divergence is not None
    assert rows[1].divergence is not None
    chunks = zip(rows[1].divergence.per_chunk, rows[0].divergence.per_chunk, strict=True)
    values = [one.divergence - other.divergence for one, other in chunks]
    assert found.by == interval(values, 0.05 / 7)
    # Student's t with 39 degrees of freedom: 2.8394 for 0.05 / 7, where 0.05 alone would have 2.0227.
    deviation = 0.05 * 0.01 * math.sqrt(40 / 39)
    assert found.by.high - found.by.mean == pytest.approx(2.8394 * deviation / math.sqrt(40), rel=1e-4)


def test_rows_on_other_chunks_are_not_compared() -> None:
    other = replace(row("B", 4, 5, 0.5), qualities=(quality(divergence(0.5), key=replace(KEY, text_sha256="f" * 64)),))
    assert differences([row("A", 5, 5, 0.03), other]) == [None, None]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"vocabulary": "another"}, "it has another vocabulary, so its tokens are other questions"),
        ({"text_sha256": "f" * 64}, "it was measured on another text"),
        ({"n_ctx_seq": 1024}, "it was measured in chunks of 1,024 tokens, the others of 512"),
        ({"chunks": 20}, "it was measured on 20 chunks, the others on 40"),
    ],
)
def test_only_the_same_text_chunks_and_vocabulary_are_ranked(change: dict[str, object], reason: str) -> None:
    strange = replace(row("C", 4, 5, 0.01), qualities=(quality(None, key=replace(KEY, **change)),))  # type: ignore[arg-type]
    assert why_not_ranked(comparison([*ladder(), strange])) == {8: reason}
    assert why_not_ranked(comparison()) == {}


def test_the_smallest_good_file_that_fits_is_advised() -> None:
    advice = advise(comparison())
    assert advice.row is not None
    assert advice.row.name == "Q4_K_M"
    assert advice.sentence == "Take Q4_K_M: the smallest that fits and is good for general text."
    assert "Mean KLD 0.0313 (good up to 0.05)" in advice.detail
    assert "40 chunks of 512 tokens" in advice.detail


def test_another_use_has_other_thresholds_and_its_own_text() -> None:
    rows = [replace(one, qualities=tuple(replace(found, kind="code") for found in one.qualities)) for one in ladder()]
    advice = advise(comparison(rows, asked_use="code"))
    assert advice.row is not None
    assert advice.row.name == "Q5_K_M"
    unknown = advise(comparison(asked_use="code"))
    assert unknown.row is None
    assert unknown.sentence == "No advice for code: no text of the kind `code` was measured."


def test_without_a_good_file_the_closest_is_advised_with_a_warning_and_a_bad_one_never() -> None:
    some = [base_row(), row("Q3_K_M", 3.74, 4, 0.1019, 0.87), row("Q3_K_S", 3.4, 3.6, 0.14, 0.86)]
    advice = advise(comparison(some))
    assert advice.row is some[1]
    assert "with a noticeable loss for general text" in advice.sentence
    bad = advise(comparison([base_row(), row("Q2_K", 2.96, 3.2, 0.4451, 0.71)]))
    assert bad.row is None
    assert bad.sentence == "None of these is advised for general text; Q2_K comes closest."


def test_a_certain_verdict_comes_before_a_smaller_uncertain_one() -> None:
    near = row("near", 4, 4.5, 0.0495)
    sure = row("sure", 5, 5.5, 0.02)
    advice = advise(comparison([base_row(), sure, near]))
    assert advice.row is sure
    assert advice.sentence == "Take sure: the smallest that fits and is certain to be good for general text."
    alone = advise(comparison([base_row(), near]))
    assert alone.row is near
    assert "Within the error it could be noticeable" in alone.detail


def test_what_does_not_fit_is_not_advised() -> None:
    large = replace(row("Q8_0", 7.95, 8.5, 0.001), memory=memory(9 * GIB))
    assert advise(comparison([base_row(), large])).sentence == "None of these fits at a context of 4,096."
    assert "Q8_0 is nearest: it lacks 1.75 GiB." in advise(comparison([base_row(), large])).detail


def test_a_whole_offload_comes_before_a_smaller_split() -> None:
    whole = row("whole", 5, 5.5, 0.02)
    split = replace(row("split", 4, 4.5, 0.03), memory=memory(4 * GIB, layers=20))
    advice = advise(comparison([whole, split]))
    assert advice.row is whole
    assert advice.sentence == "Take whole: the smallest that fits whole and is good for general text."
    assert advise(comparison([base_row(), split])).row is split
    worse = row("worse", 3, 3.5, 0.13)
    assert advise(comparison([base_row(), split, worse])).row is split


def test_a_failed_row_is_no_candidate() -> None:
    failed = replace(row("Q4_K_M", 4.6, 4.9, 0.03), error="logits are not finite", qualities=())
    advice = advise(comparison([base_row(), failed, row("Q5_K_M", 5.3, 5.7, 0.01)]))
    assert advice.row is not None
    assert advice.row.name == "Q5_K_M"
    assert advise(comparison([base_row(), failed])).sentence.endswith("nothing could be measured.")


def test_without_a_base_there_is_perplexity_and_no_verdict() -> None:
    rows = [replace(one, qualities=(quality(None),)) for one in ladder()[1:]]
    advice = advise(comparison(rows))
    assert advice.row is None
    assert "there is no base" in advice.sentence
    assert comparison(rows).use.name == "general"
    assert Level.UNKNOWN == "unknown"


def test_the_base_beats_nobody_though_it_was_measured_against_itself() -> None:
    small_base = replace(base_row(), file_bytes=GIB, qualities=(quality(divergence(0.0001)),))
    assert pareto_rows(comparison([small_base, row("Q4_K_M", 4.6, 4.9, 0.03)])) == {1}
