"""What a model may lose, by what it is for: thresholds up to which a quantity is good, and up to which noticeable."""

from dataclasses import dataclass
from enum import StrEnum

GENERAL = "general"
"""The kind of the text that is measured on by default."""


class Level(StrEnum):
    """What a verdict says, best first."""

    GOOD = "good"
    NOTICEABLE = "noticeable"
    NOT_ADVISED = "not advised"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Source:
    """Where a threshold comes from."""

    title: str
    link: str


@dataclass(frozen=True)
class Quantity:
    """A number that thresholds are set for; `share` is written as a percentage."""

    name: str
    title: str
    higher_is_better: bool = False
    share: bool = False
    around_one: bool = False

    def format(self, value: float) -> str:
        """Return the number as a person reads it."""
        if self.share:
            return f"{100 * value:.1f} %"
        return f"{value:.3f}" if self.around_one else f"{value:.3g}"


QUANTITIES = {
    quantity.name: quantity
    for quantity in (
        Quantity("mean_kld", "mean KLD"),
        Quantity("p999_kld", "99.9 % KLD"),
        Quantity("same_top", "same top token", higher_is_better=True, share=True),
        Quantity("perplexity_ratio", "perplexity ratio", around_one=True),
    )
}


@dataclass(frozen=True)
class Threshold:
    """Up to where (or from where, if higher is better) a quantity is good, and up to where it is noticeable."""

    quantity: Quantity
    good: float
    noticeable: float
    source: Source | None
    """None where it is our own judgement"""
    note: str = ""

    def level(self, value: float) -> Level:
        """Return what a value means."""
        sign = -1 if self.quantity.higher_is_better else 1
        if sign * value <= sign * self.good:
            return Level.GOOD
        return Level.NOTICEABLE if sign * value <= sign * self.noticeable else Level.NOT_ADVISED


@dataclass(frozen=True)
class Use:
    """What a model is wanted for, and what it may lose."""

    name: str
    title: str
    text: str
    """the kind of text that says something of it"""
    why: str
    thresholds: tuple[Threshold, ...]
    least_window: int = 0
    """tokens that a window must have"""


@dataclass(frozen=True)
class Standard:
    """All uses; `advice` is the source for advising the smallest good file rather than the one that diverges least."""

    uses: tuple[Use, ...]
    advice: Source | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of text that some use asks for."""
        return tuple(dict.fromkeys(use.text for use in self.uses))

    def least_window(self, kind: str) -> int:
        """Return the tokens that windows of a kind of text must have."""
        return max((use.least_window for use in self.uses if use.text == kind), default=0)
