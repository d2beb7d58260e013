"""A comparison and its rows, with what every form of it needs worked out once."""

from dataclasses import dataclass
from functools import cached_property

from toolkit.comparison.ranking import Advice, Difference, advise, differences, pareto_rows, verdicts_of, why_not_ranked
from toolkit.comparison.rows import Comparison, Row
from toolkit.llama.load_settings import KvTypes
from toolkit.measures.verdict import UseVerdict
from toolkit.render.comparison import cells


@dataclass(frozen=True)
class ComparisonView:
    """A comparison with what is worked out from it once."""

    comparison: Comparison

    @cached_property
    def advice(self) -> Advice:
        """Return which row to take."""
        return advise(self.comparison)

    @cached_property
    def unranked(self) -> dict[int, str]:
        """Return why some rows are not ranked, by their numbers."""
        return why_not_ranked(self.comparison)

    @cached_property
    def rows(self) -> tuple["RowView", ...]:
        """Return the rows with what columns need."""
        front, changes = pareto_rows(self.comparison), differences(self.comparison.rows)
        return tuple(
            RowView(self, row, number in front, change, self.unranked.get(number))
            for number, (row, change) in enumerate(zip(self.comparison.rows, changes, strict=True))
        )

    @cached_property
    def words(self) -> dict[str, str]:
        """Return what headings are filled in with."""
        method = self.comparison.method
        return {
            "memory": cells.memory_title(self.comparison),
            "n_prompt": str(method.n_prompt),
            "n_generate": str(method.n_generate),
            "use": self.comparison.use.title,
        }

    @property
    def has_rates(self) -> bool:
        """Tell whether any token rate was measured."""
        return any(row.rates is not None for row in self.comparison.rows)

    @property
    def has_differences(self) -> bool:
        """Tell whether any row was compared with the one above."""
        return any(view.difference is not None for view in self.rows)

    @property
    def has_open_verdicts(self) -> bool:
        """Tell whether more text could change a verdict."""
        return any(cells.verdict_text(self.comparison, row).endswith("?") for row in self.comparison.rows)


@dataclass(frozen=True)
class RowView:
    """A row with its place in the comparison."""

    view: ComparisonView
    row: Row
    on_front: bool
    difference: Difference | None
    not_ranked_because: str | None

    @property
    def label(self) -> str:
        """Return what the row is called."""
        return self.view.comparison.label(self.row)

    @property
    def is_advised(self) -> bool:
        """Tell whether this is the row to take."""
        return self.row is self.view.advice.row

    @property
    def kv_types(self) -> KvTypes:
        """Return the types of its KV cache."""
        return KvTypes.parse(self.row.kv)

    @property
    def verdicts(self) -> tuple[UseVerdict, ...]:
        """Return what it is worth for every use; the base is not judged."""
        return () if self.row.is_base else verdicts_of(self.view.comparison, self.row)
