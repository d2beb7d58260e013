"""The end of the page: what the verdicts rest on, and how, where and with what everything was measured."""

from collections.abc import Iterable

from toolkit.comparison.ranking import SAME_SHARE, verdicts_of, why_not_ranked
from toolkit.comparison.rows import Comparison
from toolkit.measures.paired import ALPHA, FEWEST_CHUNKS
from toolkit.measures.verdict_rules import Level, Source, Threshold, UseCase
from toolkit.report import words
from toolkit.report.markup import Html, element, joined
from toolkit.units import format_size


def verdict_section(comparison: Comparison) -> Html:
    """Return the verdicts of all files with their numbers, the thresholds, and where those come from."""
    verdicts = [(row, verdicts_of(comparison, row)) for row in comparison.rows if not row.is_base and not row.error]
    known = {one.use.name: one.use for _, found in verdicts for one in found if one.level is not Level.UNKNOWN}
    sentences = [
        element("li", element("strong", comparison.label(row)), f": {verdict.without_basis}.")
        for row, found in verdicts
        for verdict in found
        if verdict.use.name in known
    ]
    parts = [element("h2", "Verdicts"), element("p", *_unknown(comparison, known), class_="note")]
    if sentences:
        parts.append(element("ul", *sentences, class_="sentences"))
    return element("section", *parts, *(_thresholds(use) for use in known.values()))


def _unknown(comparison: Comparison, known: Iterable[str]) -> list[str]:
    """Return for what there is no verdict, and what would give one."""
    unknown = [use for use in comparison.rules.use_cases if use.name not in known]
    titles = ", ".join(use.title for use in unknown)
    if not unknown:
        return ["Every use was measured on text of its own kind."]
    if comparison.base is None:
        return [f"Unknown for {titles}: there is no unquantized model to compare with; --base names one."]
    options = [element("code", f"--text {use.text}=FILE", class_="options") for use in unknown]
    spaced = [part for option in options for part in (" ", option)]
    return [f"Unknown for {titles}: no such text was measured. These would tell:", *spaced]


def _thresholds(use: UseCase) -> Html:
    head = [
        element("th", title, scope="col", role="columnheader", class_="words" if title == "Source" else None)
        for title in ("Quantity", "Good", "Noticeable", "Source")
    ]
    rows = [element("tr", *_threshold_cells(threshold), role="row") for threshold in use.thresholds]
    return element(
        "table",
        element("caption", f"Thresholds for {use.title}. {use.why}", class_="quiet"),
        element("thead", element("tr", *head, role="row"), role="rowgroup"),
        element("tbody", *rows, role="rowgroup"),
        class_="cards thresholds",
        role="table",
    )


def _threshold_cells(threshold: Threshold) -> list[Html]:
    quantity = threshold.quantity
    word = "from" if quantity.higher_is_better else "up to"
    source = f"{_short(threshold.source)}: {threshold.note}" if threshold.note else _short(threshold.source)
    return [
        element("th", quantity.title, scope="row", role="rowheader"),
        element("td", element("span", f"{word} {quantity.format(threshold.good)}"), data_label="Good", role="cell"),
        element(
            "td",
            element("span", f"{word} {quantity.format(threshold.noticeable)}"),
            data_label="Noticeable",
            role="cell",
        ),
        element("td", element("span", source), class_="words wrap", role="cell"),
    ]


def _short(source: Source | None) -> str:
    return "our judgement" if source is None else source.title.split(":")[0].split(",")[0]


def method_section(comparison: Comparison) -> Html:
    """Return how, where and with what everything was measured."""
    entries = [
        ("Text", _list(words.text_words(comparison))),
        ("Perplexity and KLD", element("span", _method_words(comparison))),
        ("Differences", element("span", _difference_words())),
        ("Rates", element("span", words.rates_words(comparison.method))),
        ("Machine", _list(_machine_lines(comparison))),
        ("Versions", element("span", _versions(comparison))),
        ("Not ranked", _list(_unranked_lines(comparison))),
        ("Remarks", _list(comparison.notes)),
        ("Command", element("code", comparison.command) if comparison.command else Html()),
        ("Sources", _sources(comparison)),
    ]
    shown = [joined([element("dt", title), element("dd", value)]) for title, value in entries if value]
    return element("section", element("h2", "Method"), element("dl", *shown, class_="about"))


def _list(lines: Iterable[str]) -> Html:
    items = [element("li", line) for line in lines]
    return element("ul", *items) if items else Html()


def _method_words(comparison: Comparison) -> str:
    base = f"{comparison.base.name} with an f16 KV cache" if comparison.base is not None else "none, so there is no KLD"
    return (
        "as llama-perplexity defines them: chunks on an empty memory, the second half of each scored; all files on the same "
        f"chunks; base: {base}"
    )


def _difference_words() -> str:
    return (
        f"from the row above, paired chunk by chunk; yes where the confidence interval of the difference in mean KLD leaves "
        f"out 0, no where it lies within {SAME_SHARE:.0%} of the KLD itself; all answers together are wrong in at most {ALPHA:.0%}, as far "
        f"as {FEWEST_CHUNKS} chunks or more without rare outliers tell (Student's t)"
    )


def _machine_lines(comparison: Comparison) -> list[str]:
    machine = comparison.machine
    return [machine.system, f"{machine.processor}, {format_size(machine.ram_bytes)} of RAM", *machine.devices]


def _versions(comparison: Comparison) -> str:
    return ", ".join(f"{name} {version}" for name, version in comparison.machine.versions.items() if version)


def _unranked_lines(comparison: Comparison) -> list[str]:
    return [f"{comparison.rows[number].name}: {why}" for number, why in why_not_ranked(comparison).items()]


def _sources(comparison: Comparison) -> Html:
    """Return the sources of the thresholds that a verdict rests on, and of the advice."""
    measured = {quality.kind for row in comparison.rows for quality in row.qualities}
    uses = [use for use in comparison.rules.use_cases if use.text in measured]
    cited = {one.source for use in uses for one in use.thresholds} | {comparison.rules.advice}
    ordered = sorted((source for source in cited if source is not None), key=lambda source: source.title)
    items = [element("li", element("a", source.title, href=source.link)) for source in ordered]
    return element("ul", *items) if items else Html()
