"""The checks of a verification, each with its evidence."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """The outcome of a check; UNKNOWN is one that could not be made."""

    PASS = "PASS"
    FAIL = "FAIL"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True)
class Check:
    """One property of a file, compared with its source."""

    name: str
    outcome: Outcome
    expected: str
    observed: str
    evidence: str = ""
    """what was looked at, or why nothing was"""

    @property
    def failed(self) -> bool:
        """Tell whether the check was made and failed."""
        return self.outcome is Outcome.FAIL


def judged(name: str, holds: bool, expected: str, observed: str, evidence: str = "") -> Check:
    """Return a check that was made."""
    return Check(name, Outcome.PASS if holds else Outcome.FAIL, expected, observed, evidence)


def unknown(name: str, expected: str, why: str) -> Check:
    """Return a check that could not be made."""
    return Check(name, Outcome.UNKNOWN, expected, "not checked", why)


def listed(names: list[str] | tuple[str, ...], most: int = 3) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
