"""Whether a quantized model is good enough for a use case, judged by how far it is from the unquantized one.

A verdict rests on text of the use case's own kind; without any it is unknown. The worst of its quantities is the verdict.
Where the confidence interval of a quantity reaches beyond a threshold, the verdict says so.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from toolkit.measures.verdict_rules import Level, Threshold, UseCase

_ORDER = (Level.GOOD, Level.NOTICEABLE, Level.NOT_ADVISED)


@dataclass(frozen=True)
class Measured:
    """A value, and the bounds of the true one with about 95 % confidence."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Measurement:
    """How far a model is from the unquantized one on one text."""

    kind: str
    text: str
    text_sha256: str
    n_ctx_seq: int
    chunks: int
    values: dict[str, Measured]
    """by the names of QUANTITIES"""

    @property
    def basis(self) -> str:
        """Return the text and the chunks that the numbers rest on, for people."""
        plural = "" if self.chunks == 1 else "s"
        return (
            f"{self.text} ({self.chunks:,} chunk{plural} of {self.n_ctx_seq:,} tokens, SHA-256 {self.text_sha256[:12]})"
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
        """Tell whether there was text enough for a confidence interval."""
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
    """Whether a model is good enough for a use case, with the numbers and the text that this rests on."""

    use: UseCase
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
            return f"within the error it could be {others}; more text would tell"
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


def judge_use(use: UseCase, measurements: Sequence[Measurement]) -> UseVerdict:
    """Return the verdict of a use case; of several texts of its kind the worst counts."""
    of_kind = [measurement for measurement in measurements if measurement.kind == use.text]
    if not of_kind:
        return UseVerdict(use, Level.UNKNOWN, reason=f"no text of the kind `{use.text}` was measured")
    long_enough = [measurement for measurement in of_kind if measurement.n_ctx_seq >= use.least_chunk_tokens]
    if not long_enough:
        longest = max(measurement.n_ctx_seq for measurement in of_kind)
        reason = (
            f"its text was measured in chunks of {longest:,} tokens, and at least {use.least_chunk_tokens:,} are needed"
        )
        return UseVerdict(use, Level.UNKNOWN, reason=reason)
    return max((_on_text(use, measurement) for measurement in long_enough), key=_badness)


def judge(uses: Iterable[UseCase], measurements: Sequence[Measurement]) -> tuple[UseVerdict, ...]:
    """Return the verdicts of several use cases."""
    return tuple(judge_use(use, measurements) for use in uses)


def _on_text(use: UseCase, measurement: Measurement) -> UseVerdict:
    quantities = [threshold.quantity for threshold in use.thresholds]
    missing = [quantity.title for quantity in quantities if quantity.name not in measurement.values]
    if missing:
        return UseVerdict(use, Level.UNKNOWN, reason=f"{', '.join(missing)} was not measured: there is no base")
    findings = tuple(Finding(threshold, measurement.values[threshold.quantity.name]) for threshold in use.thresholds)
    level = max((finding.level for finding in findings), key=_ORDER.index)
    return UseVerdict(use, level, findings, measurement)


def _badness(verdict: UseVerdict) -> int:
    # What is unknown of one text must not hide behind what is known of another.
    return len(_ORDER) if verdict.level is Level.UNKNOWN else _ORDER.index(verdict.level)
