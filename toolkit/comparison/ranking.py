"""Which rows can be ranked, which are worth their bytes, which really differ, and which one to take."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from toolkit.comparison.figures import measurements_of
from toolkit.comparison.rows import Comparison, Row, TextKey
from toolkit.measures.paired import ALPHA, Interval, interval
from toolkit.measures.verdict import UseVerdict, judge, judge_use
from toolkit.measures.verdict_rules import Level
from toolkit.units import format_size

SAME_SHARE = 0.05
"""A difference below this share of the divergence itself is none."""
Answer = Literal["yes", "no", "undecided"]


@dataclass(frozen=True)
class Difference:
    """Whether a row diverges by more or less than the row above, on the same chunks."""

    answer: Answer
    by: Interval
    """mean KLD minus that of the row above"""


@dataclass(frozen=True)
class Advice:
    """Which row to take, and why; None where there is nothing to advise."""

    row: Row | None
    sentence: str
    detail: str = ""


def why_not_ranked(comparison: Comparison) -> dict[int, str]:
    """Return, by the number of the row, why some cannot be ranked with the rest: another vocabulary or other chunks."""
    keys = {number: row.quality.key for number, row in enumerate(comparison.rows) if row.quality is not None}
    if not keys:
        return {}
    base = comparison.base
    common = Counter(keys.values()).most_common(1)[0][0]
    reference = base.quality.key if base is not None and base.quality is not None else common
    return {number: _what_differs(key, reference) for number, key in keys.items() if key != reference}


def _what_differs(key: TextKey, reference: TextKey) -> str:
    if key.text_sha256 != reference.text_sha256:
        return "it was measured on another text"
    if key.n_ctx_seq != reference.n_ctx_seq:
        return f"it was measured in chunks of {key.n_ctx_seq:,} tokens, the others of {reference.n_ctx_seq:,}"
    if key.vocabulary != reference.vocabulary:
        return "it has another vocabulary, so its tokens are other questions"
    return f"it was measured on {key.chunks:,} chunks, the others on {reference.chunks:,}"


def pareto_rows(comparison: Comparison) -> frozenset[int]:
    """Return the numbers of the rows for which no other takes as little and diverges as little, with less of one."""
    points = {
        number: (comparison.cost_bytes(row), row.divergence.mean.value)
        for number, row in enumerate(comparison.rows)
        if row.divergence is not None and not row.is_base
    }
    return frozenset(
        number for number, point in points.items() if not any(_beats(other, point) for other in points.values())
    )


def _beats(point: tuple[int, float], other: tuple[int, float]) -> bool:
    return point != other and point[0] <= other[0] and point[1] <= other[1]


def differences(rows: Sequence[Row]) -> list[Difference | None]:
    """Return how each row differs from the one above, None where that was not measured on the same chunks.

    All answers together are wrong in at most ALPHA of the cases, as far as Student's t holds for the chunks.
    """
    pairs = [(above, row) for above, row in pairwise(rows) if _are_paired(above, row)]
    changes = [_difference(above, row, ALPHA / max(1, len(pairs))) for above, row in pairwise(rows)]
    return [None, *changes] if rows else []


def _are_paired(above: Row, row: Row) -> bool:
    if above.quality is None or row.quality is None or above.divergence is None or row.divergence is None:
        return False
    return not above.is_base and above.quality.key == row.quality.key


def _difference(above: Row, row: Row, alpha: float) -> Difference | None:
    if not _are_paired(above, row) or above.divergence is None or row.divergence is None:
        return None
    chunks = zip(row.divergence.per_chunk, above.divergence.per_chunk, strict=True)
    by = interval([chunk.divergence - chunk_above.divergence for chunk, chunk_above in chunks], alpha)
    same = SAME_SHARE * max(abs(row.divergence.mean.value), abs(above.divergence.mean.value))
    if -same <= by.low and by.high <= same:
        return Difference("no", by)
    return Difference("yes" if by.low > 0 or by.high < 0 else "undecided", by)


def verdicts_of(comparison: Comparison, row: Row) -> tuple[UseVerdict, ...]:
    """Return what a row is worth for every use."""
    return judge(comparison.rules.use_cases, measurements_of(row))


_Judged = tuple[Row, UseVerdict]


def advise(comparison: Comparison) -> Advice:
    """Return which row to take for the use that decides: the smallest that is good and fits.

    Near the unquantized model a smaller divergence does not mean better answers, so more bytes buy nothing there.
    """
    use, rows = comparison.use, [row for row in comparison.rows if not row.is_base and not row.error]
    judged = [(row, judge_use(use, measurements_of(row))) for row in rows]
    known = [(row, verdict) for row, verdict in judged if verdict.level is not Level.UNKNOWN]
    if not known:
        reason = judged[0][1].reason if judged else "nothing could be measured"
        return Advice(None, f"No advice for {use.title}: {reason}.")
    fitting = [pair for pair in known if pair[0].memory is None or pair[0].memory.fits]
    if not fitting:
        return Advice(None, f"None of these fits at a context of {comparison.method.n_ctx:,}.", _least_lacking(known))
    return _choose(comparison, fitting)


def _least_lacking(known: Sequence[_Judged]) -> str:
    lacking = [(row.memory.missing_bytes, row.name) for row, _ in known if row.memory is not None]
    least, name = min(lacking)
    return f"{name} is nearest: it lacks {format_size(least)}."


def _choose(comparison: Comparison, pairs: Sequence[_Judged]) -> Advice:
    for level in (Level.GOOD, Level.NOTICEABLE):
        of_level = [pair for pair in pairs if pair[1].level is level]
        # A whole offload first, then one that is certain; then the smallest if it is good, else the closest to the base.
        whole = [pair for pair in of_level if pair[0].memory is None or pair[0].memory.fits_whole] or of_level
        certain = [pair for pair in whole if pair[1].is_certain] or whole
        if certain:
            row, verdict = min(certain, key=lambda pair: _price(comparison, pair[0], level))
            distinction = _Distinction(
                _fits(comparison, some_split=len(whole) < len(of_level)), len(certain) < len(whole)
            )
            return Advice(row, _headline(comparison, row, verdict, distinction), _details(verdict))
    row, verdict = min(pairs, key=lambda pair: _price(comparison, pair[0], Level.NOT_ADVISED))
    sentence = f"None of these is advised for {comparison.use.title}; {comparison.label(row)} comes closest."
    return Advice(None, sentence, _details(verdict))


def _fits(comparison: Comparison, *, some_split: bool) -> str:
    if some_split:
        return "fits whole"
    return "fits" if any(row.memory and not row.memory.fits for row in comparison.rows) else ""


def _price(comparison: Comparison, row: Row, level: Level) -> float:
    if level is Level.GOOD or row.divergence is None:
        return comparison.cost_bytes(row)
    return row.divergence.mean.value


@dataclass(frozen=True)
class _Distinction:
    """What sets the choice apart from others of the same level."""

    fits: str
    is_certain: bool
    """while others are not"""


def _headline(comparison: Comparison, row: Row, verdict: UseVerdict, distinction: _Distinction) -> str:
    use, name = comparison.use.title, comparison.label(row)
    if verdict.level is Level.GOOD:
        fits = f"{distinction.fits} and " if distinction.fits else ""
        certain = "certain to be " if distinction.is_certain else ""
        return f"Take {name}: the smallest that {fits}is {certain}good for {use}."
    what = f"that {distinction.fits} " if distinction.fits else ""
    return (
        f"Take {name} if it must be one of these: the closest {what}to the unquantized model, "
        f"with a noticeable loss for {use}."
    )


def _details(verdict: UseVerdict) -> str:
    """Return what the advice rests on, in whole sentences."""
    sentences = [verdict.numbers, verdict.doubt]
    if verdict.measurement is not None:
        sentences.append(f"measured on {verdict.measurement.basis}")
    return " ".join(f"{sentence[:1].upper()}{sentence[1:]}." for sentence in sentences if sentence)
