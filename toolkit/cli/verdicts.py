"""Thresholds on the command line, and what a measurement says to them."""

from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import Function, note
from toolkit.cli.files import INPUT
from toolkit.cli.options import add_options
from toolkit.errors import QualityError

if TYPE_CHECKING:
    from toolkit.measures.paired import Answer, Bounds, Question, Verdict

_OPTIONS = (
    click.option("--max-kld", type=click.FloatRange(min=0), help="Fail (exit code 1) above this mean divergence."),
    click.option("--max-ppl-increase", type=float, help="Fail above this increase of the perplexity, in per cent."),
    click.option("--min-same-top", type=click.FloatRange(0, 100), help="Fail below this share of same top tokens, %."),
    click.option("--against", type=INPUT, help="Another GGUF file: fail if that one diverges less."),
    click.option(
        "--until-decided",
        is_flag=True,
        help="Take windows in random order, and stop as soon as all of these are settled for the whole text; wrong in at most 5 % of "
        "the orders. Windows count as a few times the threshold at most, which the answer names.",
    ),
)


def verdict_options(function: Function) -> Function:
    """Add thresholds, and the option to stop as soon as they are settled."""
    return add_options(function, _OPTIONS)


def questions_of(options: dict[str, Any]) -> "list[Question]":
    """Return the questions that the options ask.

    Raises click.UsageError if --until-decided has nothing to decide.
    """
    from toolkit.measures.paired import (
        mean_divergence_at_most,
        no_farther_than,
        perplexity_increase_at_most,
        same_top_at_least,
    )

    questions = []
    if options["max_kld"] is not None:
        questions.append(mean_divergence_at_most(options["max_kld"]))
    if options["max_ppl_increase"] is not None:
        questions.append(perplexity_increase_at_most(options["max_ppl_increase"] / 100))
    if options["min_same_top"] is not None:
        questions.append(same_top_at_least(options["min_same_top"] / 100))
    if options["against"] is not None:
        questions.append(no_farther_than(options["against"].name))
    if options["until_decided"] and not questions:
        raise click.UsageError(
            "--until-decided needs something to decide: --max-kld, --max-ppl-increase, --min-same-top or --against"
        )
    return questions


def verdict_document(verdict: "Verdict | None") -> dict[str, Any]:
    """Return the part of a document that judges; null where nothing was asked."""
    if verdict is None:
        return {"verdict": None}
    answers = [
        {
            "quantity": answer.question.quantity,
            "threshold": answer.question.threshold,
            "outcome": answer.outcome,
            "mean": answer.found.mean,
            "low": answer.found.low,
            "high": answer.found.high,
            **_counted_document(answer),
        }
        for answer in verdict.answers
    ]
    return {
        "verdict": {
            "holds": verdict.holds,
            "outcome": verdict.outcome,
            "confidence": 1.0 if verdict.is_exact else 1 - verdict.alpha,
            "windows": verdict.windows,
            "windows_available": verdict.total,
            "questions": answers,
        }
    }


def _counted_document(answer: "Answer") -> dict[str, Any]:
    """Return within what values windows were counted, null where they count as they are, and what was cut."""
    counted = answer.counted
    return {
        "counted_from": counted.low if counted is not None else None,
        "counted_to": counted.high if counted is not None else None,
        "cut_windows": answer.cut_windows,
        "cut_mean": answer.cut_mean,
    }


def conclude(verdict: "Verdict | None", *, quiet: bool) -> None:
    """Say what the verdict is.

    Raises QualityError if a threshold is not kept.
    """
    if verdict is None:
        return
    words = f"{_certainty(verdict)}, after {verdict.windows} of {verdict.total} windows"
    if not verdict.holds:
        worst = next(
            answer
            for answer in verdict.answers
            if answer.outcome == "failed" or answer.found.mean > answer.question.threshold
        )
        raise QualityError(
            f"{worst.question.quantity} {worst.found.mean:.6f} is above the threshold of "
            f"{worst.question.threshold:.6f} ({words})"
        )
    if not quiet:
        note(f"all thresholds are kept ({words})")


def _certainty(verdict: "Verdict") -> str:
    if verdict.is_exact:
        return "the mean of this text itself"
    if verdict.outcome == "undecided":
        return "by the means of what was measured; more text is needed to be sure"
    cut = [
        f"{answer.question.quantity} counted {_within(answer.counted)} a window"
        for answer in verdict.answers
        if answer.counted is not None and not answer.counted.is_natural
    ]
    return ", ".join([f"decided with {1 - verdict.alpha:.0%} confidence for the mean of this text", *cut])


def _within(bounds: "Bounds") -> str:
    return f"up to {bounds.high:.3g}" if bounds.natural_low else f"within ±{bounds.high:.3g}"
