"""Whether a quantized model is good enough for a use, told from how far it is from the unquantized one.

A verdict rests on text of the use's own kind: without any it is unknown, never fine. Every quantity has a threshold up
to which it is good and one up to which it is noticeable; the worst quantity is the verdict. Where the interval of a
quantity reaches over a threshold the verdict says so.
"""

import math
from collections.abc import Iterable, Sequence
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


_ORDER = (Level.GOOD, Level.NOTICEABLE, Level.NOT_ADVISED)


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


@dataclass(frozen=True)
class Measured:
    """A value and between what bounds the true one lies, with about 95 % confidence."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Measurement:
    """How far a model is from the unquantized one on one text."""

    kind: str
    text: str
    text_sha256: str
    n_ctx: int
    windows: int
    values: dict[str, Measured]
    """by the names of QUANTITIES"""

    @property
    def basis(self) -> str:
        """Return what the numbers rest on, in words."""
        plural = "" if self.windows == 1 else "s"
        return (
            f"{self.text} ({self.windows:,} window{plural} of {self.n_ctx:,} tokens, SHA-256 {self.text_sha256[:12]})"
        )


@dataclass(frozen=True)
class Finding:
    """What one quantity says."""

    threshold: Threshold
    measured: Measured

    @property
    def level(self) -> Level:
        """Return what the value means."""
        return self.threshold.level(self.measured.value)

    @property
    def is_bounded(self) -> bool:
        """Tell whether there was text enough to say between what bounds the value lies."""
        return math.isfinite(self.measured.low) and math.isfinite(self.measured.high)

    @property
    def possible(self) -> tuple[Level, ...]:
        """Return the levels that the interval reaches, best first, as far as it is known."""
        bounds = (end for end in (self.measured.low, self.measured.high) if math.isfinite(end))
        ends = {self.threshold.level(end) for end in bounds}
        reached = [_ORDER.index(level) for level in ends | {self.level}]
        return _ORDER[min(reached) : max(reached) + 1]

    def __str__(self) -> str:
        """Return `mean KLD 0.0148 (good up to 0.05)`."""
        quantity, threshold = self.threshold.quantity, self.threshold
        limit = threshold.good if self.level is Level.GOOD else threshold.noticeable
        level = Level.GOOD if self.level is Level.GOOD else Level.NOTICEABLE
        word = "from" if quantity.higher_is_better else "up to"
        return f"{quantity.title} {quantity.format(self.measured.value)} ({level} {word} {quantity.format(limit)})"


@dataclass(frozen=True)
class UseVerdict:
    """What a model is worth for a use, with the numbers and the text that it rests on."""

    use: Use
    level: Level
    findings: tuple[Finding, ...] = ()
    measurement: Measurement | None = None
    reason: str = ""
    """why it is unknown"""

    @property
    def possible(self) -> tuple[Level, ...]:
        """Return the levels that the intervals allow, best first; more than one is a verdict that more text could change."""
        if not self.findings:
            return (self.level,)
        best = max(_ORDER.index(finding.possible[0]) for finding in self.findings)
        worst = max(_ORDER.index(finding.possible[-1]) for finding in self.findings)
        return _ORDER[best : worst + 1]

    @property
    def is_certain(self) -> bool:
        """Tell whether the intervals of all quantities leave one verdict; nothing unbounded makes the worst one better."""
        if self.level is Level.UNKNOWN or len(self.possible) > 1:
            return False
        return self.level is Level.NOT_ADVISED or not self.unbounded

    @property
    def unbounded(self) -> tuple[Finding, ...]:
        """Return the findings that there was too little text for."""
        return tuple(finding for finding in self.findings if not finding.is_bounded)

    @property
    def deciding(self) -> tuple[Finding, ...]:
        """Return the findings that make the verdict what it is; of a good one, all."""
        return tuple(finding for finding in self.findings if finding.level is self.level)

    @property
    def numbers(self) -> str:
        """Return the quantities that decide, each with its threshold."""
        return ", ".join(map(str, self.deciding))

    @property
    def doubt(self) -> str:
        """Return what else the verdict could be, nothing where it is certain."""
        if self.is_certain or self.measurement is None:
            return ""
        others = " or ".join(level for level in self.possible if level is not self.level)
        if others:
            return f"within the error it could be {others}, more text would tell"
        titles = ", ".join(finding.threshold.quantity.title for finding in self.unbounded)
        return f"the text is too short to bound the {titles} from above"

    @property
    def without_basis(self) -> str:
        """Return the verdict with its numbers."""
        if self.measurement is None:
            return f"unknown for {self.use.title}: {self.reason}"
        doubt = f"; {self.doubt}" if self.doubt else ""
        return f"{self.level} for {self.use.title}: {self.numbers}{doubt}"

    @property
    def sentence(self) -> str:
        """Return the verdict with its numbers and its text."""
        basis = f"; on {self.measurement.basis}" if self.measurement is not None else ""
        return self.without_basis + basis


def judge_use(use: Use, measurements: Sequence[Measurement]) -> UseVerdict:
    """Return what measurements say of a use; of several texts of its kind the worst counts."""
    fitting = [one for one in measurements if one.kind == use.text]
    if not fitting:
        return UseVerdict(use, Level.UNKNOWN, reason=f"no text of the kind `{use.text}` was measured")
    long_enough = [one for one in fitting if one.n_ctx >= use.least_window]
    if not long_enough:
        longest = max(one.n_ctx for one in fitting)
        reason = f"its text was measured in windows of {longest:,} tokens, and at least {use.least_window:,} are needed"
        return UseVerdict(use, Level.UNKNOWN, reason=reason)
    return max((_on_text(use, one) for one in long_enough), key=_badness)


def judge(uses: Iterable[Use], measurements: Sequence[Measurement]) -> tuple[UseVerdict, ...]:
    """Return the verdicts of several uses."""
    return tuple(judge_use(use, measurements) for use in uses)


def _on_text(use: Use, measurement: Measurement) -> UseVerdict:
    missing = [one.quantity.title for one in use.thresholds if one.quantity.name not in measurement.values]
    if missing:
        return UseVerdict(use, Level.UNKNOWN, reason=f"{', '.join(missing)} was not measured: there is no base")
    findings = tuple(Finding(one, measurement.values[one.quantity.name]) for one in use.thresholds)
    level = max((finding.level for finding in findings), key=_ORDER.index)
    return UseVerdict(use, level, findings, measurement)


def _badness(verdict: UseVerdict) -> int:
    # What is unknown of one text must not hide behind what is known of another.
    return len(_ORDER) if verdict.level is Level.UNKNOWN else _ORDER.index(verdict.level)
