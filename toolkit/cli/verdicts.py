"""Thresholds on the command line, and what a measurement says to them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from toolkit.cli.common import Function, note
from toolkit.cli.options import add_options
from toolkit.errors import QualityError

if TYPE_CHECKING:
    from toolkit.measures.paired import Question, Verdict

_OPTIONS = (
    click.option("--max-kld", type=click.FloatRange(min=0), help="Fail (exit code 1) above this mean divergence."),
    click.option("--max-ppl-increase", type=float, help="Fail above this increase of the perplexity, in per cent."),
    click.option("--min-same-top", type=click.FloatRange(0, 100), help="Fail below this share of same top tokens, %."),
    click.option(
        "--against", type=click.Path(path_type=Path), help="Another GGUF file: fail if that one diverges less."
    ),
    click.option(
        "--until-decided",
        is_flag=True,
        help="Take windows in random order, and stop as soon as all of these are settled; wrong in at most 5 %.",
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


def verdict_document(verdict: "Verdict | None", available: int) -> dict[str, Any]:
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
        }
        for answer in verdict.answers
    ]
    return {
        "verdict": {
            "holds": verdict.holds,
            "outcome": verdict.outcome,
            "confidence": 1 - verdict.alpha,
            "windows": verdict.windows,
            "windows_available": available,
            "questions": answers,
        }
    }


def conclude(verdict: "Verdict | None", available: int, *, quiet: bool) -> None:
    """Say what the verdict is.

    Raises QualityError if a threshold is not kept.
    """
    if verdict is None:
        return
    certainty = (
        f"decided with {1 - verdict.alpha:.0%} confidence"
        if verdict.outcome != "undecided"
        else "by the means of what was measured; more text is needed to be sure"
    )
    words = f"{certainty}, after {verdict.windows} of {available} windows"
    if not verdict.holds:
        worst = next(answer for answer in verdict.answers if answer.found.mean > answer.question.threshold)
        raise QualityError(
            f"{worst.question.quantity} {worst.found.mean:.6f} is above the threshold of "
            f"{worst.question.threshold:.6f} ({words})"
        )
    if not quiet:
        note(f"all thresholds are kept ({words})")
