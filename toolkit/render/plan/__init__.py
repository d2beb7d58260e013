"""A plan in every form: a table, JSON, and what other programs read of its best choice (`launch`)."""

from toolkit.render.plan import launch
from toolkit.render.plan.document import choice_document, plan_document
from toolkit.render.plan.table import table, where_it_lies
from toolkit.verbs.plan import PlanResult

__all__ = [
    "TABLE",
    "choice_document",
    "launch_block",
    "launch_warnings",
    "plan_document",
    "table",
    "where_it_lies",
]
TABLE = "table"


def launch_block(result: PlanResult, format_: str) -> str:
    """Return how to run the first choice, in one of `launch.FORMATS`.

    Raises InputError for a name of a file that the format cannot hold.
    """
    return launch.launch_text(result.launch(result.choices[0]), format_)


def launch_warnings(result: PlanResult, format_: str) -> list[str]:
    """Return what the format cannot say of the first choice."""
    return launch.launch_warnings(result.launch(result.choices[0]), format_)
