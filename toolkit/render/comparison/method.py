"""The end of the page: what the verdicts rest on, and how, where and with what everything was measured."""

from collections.abc import Sequence
from dataclasses import dataclass

from toolkit.comparison.ranking import SAME_SHARE, verdicts_of, why_not_ranked
from toolkit.comparison.rows import Comparison, Row
from toolkit.measures.paired import ALPHA, FEWEST_CHUNKS
from toolkit.measures.verdict import UseVerdict
from toolkit.measures.verdict_rules import Level, Source, Threshold, UseCase
from toolkit.render.comparison import cells
from toolkit.units import format_size


@dataclass(frozen=True)
class Verdict:
    """What a file is worth for a use."""

    name: str
    sentence: str


@dataclass(frozen=True)
class Unknown:
    """For what there is no verdict, and the options that would give one."""

    sentence: str
    options: Sequence[str] = ()


@dataclass(frozen=True)
class ThresholdRow:
    """The thresholds of a quantity as they are read."""

    quantity: str
    good: str
    noticeable: str
    source: str


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of a use."""

    caption: str
    rows: Sequence[ThresholdRow]


@dataclass(frozen=True)
class Entry:
    """What is said of the method under one title: a list, a sentence, a command or links."""

    title: str
    lines: Sequence[str] = ()
    sentence: str = ""
    command: str = ""
    links: Sequence[Source] = ()

    @property
    def says_something(self) -> bool:
        """Tell whether there is anything below the title."""
        return bool(self.lines or self.sentence or self.command or self.links)


def verdicts(comparison: Comparison) -> list[Verdict]:
    """Return the verdicts of all files for the uses that were measured."""
    known = {use.name for use in known_uses(comparison)}
    return [
        Verdict(comparison.label(row), verdict.without_basis)
        for row, of_row in _judged(comparison)
        for verdict in of_row
        if verdict.use.name in known
    ]


def known_uses(comparison: Comparison) -> list[UseCase]:
    """Return the uses for which some file has a verdict."""
    levels = [verdict for _, of_row in _judged(comparison) for verdict in of_row if verdict.level is not Level.UNKNOWN]
    return list({verdict.use.name: verdict.use for verdict in levels}.values())


def _judged(comparison: Comparison) -> list[tuple[Row, Sequence[UseVerdict]]]:
    return [(row, verdicts_of(comparison, row)) for row in comparison.rows if not row.is_base and not row.error]


def unknown_uses(comparison: Comparison) -> Unknown:
    """Return for what there is no verdict, and what would give one."""
    known = {use.name for use in known_uses(comparison)}
    unknown = [use for use in comparison.rules.use_cases if use.name not in known]
    titles = ", ".join(use.title for use in unknown)
    if not unknown:
        return Unknown("Every use was measured on text of its own kind.")
    if comparison.base is None:
        return Unknown(f"Unknown for {titles}: there is no unquantized model to compare with; --base names one.")
    options = [f"--text {use.text}=FILE" for use in unknown]
    return Unknown(f"Unknown for {titles}: no such text was measured. These would tell:", options)


def thresholds(use: UseCase) -> Thresholds:
    """Return the thresholds of a use."""
    return Thresholds(f"Thresholds for {use.title}. {use.why}", [_threshold_row(row) for row in use.thresholds])


def _threshold_row(threshold: Threshold) -> ThresholdRow:
    quantity, source = threshold.quantity, _short(threshold.source)
    word = "from" if quantity.higher_is_better else "up to"
    return ThresholdRow(
        quantity.title,
        f"{word} {quantity.format(threshold.good)}",
        f"{word} {quantity.format(threshold.noticeable)}",
        f"{source}: {threshold.note}" if threshold.note else source,
    )


def _short(source: Source | None) -> str:
    return "our judgement" if source is None else source.title.split(":")[0].split(",")[0]


def method_entries(comparison: Comparison) -> list[Entry]:
    """Return how, where and with what everything was measured."""
    entries = (
        Entry("Text", cells.text_lines(comparison)),
        Entry("Perplexity and KLD", sentence=_perplexity_sentence(comparison)),
        Entry("Differences", sentence=_difference_sentence()),
        Entry("Rates", sentence=cells.rates_sentence(comparison.method)),
        Entry("Machine", _machine_lines(comparison)),
        Entry("Versions", sentence=_versions(comparison)),
        Entry("Not ranked", _unranked_lines(comparison)),
        Entry("Remarks", comparison.notes),
        Entry("Command", command=comparison.command),
        Entry("Sources", links=_sources(comparison)),
    )
    return [entry for entry in entries if entry.says_something]


def _perplexity_sentence(comparison: Comparison) -> str:
    base = f"{comparison.base.name} with an f16 KV cache" if comparison.base is not None else "none, so there is no KLD"
    return (
        "as llama-perplexity defines them: chunks on an empty memory, the second half of each scored; all files on the "
        f"same chunks; base: {base}"
    )


def _difference_sentence() -> str:
    return (
        "from the row above, paired chunk by chunk; yes where the confidence interval of the difference in mean KLD "
        f"leaves out 0, no where it lies within {SAME_SHARE:.0%} of the KLD itself; all answers together are wrong in at "
        f"most {ALPHA:.0%}, as far as {FEWEST_CHUNKS} chunks or more without rare outliers tell (Student's t)"
    )


def _machine_lines(comparison: Comparison) -> list[str]:
    machine = comparison.machine
    return [machine.system, f"{machine.processor}, {format_size(machine.ram_bytes)} of RAM", *machine.devices]


def _versions(comparison: Comparison) -> str:
    return ", ".join(f"{name} {version}" for name, version in comparison.machine.versions.items() if version)


def _unranked_lines(comparison: Comparison) -> list[str]:
    return [f"{comparison.rows[number].name}: {why}" for number, why in why_not_ranked(comparison).items()]


def _sources(comparison: Comparison) -> list[Source]:
    """Return the sources of the thresholds that a verdict rests on, and of the advice."""
    measured = {quality.kind for row in comparison.rows for quality in row.qualities}
    uses = [use for use in comparison.rules.use_cases if use.text in measured]
    cited = {threshold.source for use in uses for threshold in use.thresholds} | {comparison.rules.advice}
    return sorted((source for source in cited if source is not None), key=lambda source: source.title)
