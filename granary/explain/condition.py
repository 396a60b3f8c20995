"""The condition that a person types to choose rows of a mart: one expression on the mart's columns, and nothing else.

It is parsed, checked and written anew from the parsed tree, so that what was checked is what runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlglot import exp, parse
from sqlglot.errors import ParseError, SqlglotError

from granary.dbt.lineage import DIALECT
from granary.warehouse.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

LONGEST = 2000
DEEPEST = 50
OPENING = "("
REFUSED = (exp.Query, exp.Window, exp.AggFunc, exp.Placeholder, exp.Parameter, exp.Star, exp.Table, exp.UDTF)


class ConditionError(UsageError):
    """The condition, or the name of a mart or column, is wrong: what a person typed, not what the warehouse holds."""


def condition(text: str, mart: str, columns: Collection[str]) -> str:
    """Return the condition as SQL in which the row is called `this`.

    Raises:
        ConditionError: it is not one expression, names a column that the mart lacks, or does more than compare values.
    """
    tree = _parsed(text)
    for node in tree.walk():
        if isinstance(node, REFUSED):
            raise refuse(f"{_shown(node)} is more than a condition on one row", "compare columns with values")
        if isinstance(node, exp.Anonymous):
            raise refuse(f"the function {node.name} is not among those that --where takes", "use a standard one")
    for column in tree.find_all(exp.Column):
        name = column.name if column.this.quoted else column.name.lower()
        if name not in columns or column.text("table") not in ("", mart, "this"):
            raise refuse(f"{mart} has no column {_shown(column)}", f"it has {', '.join(columns)}")
        column.replace(exp.column(exp.to_identifier(name, quoted=True), table="this"))
    return tree.sql(DIALECT, comments=False)


def _parsed(text: str) -> exp.Expression:
    if len(text) > LONGEST:
        raise refuse(f"it has {len(text):,} characters", f"{LONGEST:,} are the most")
    if _depth(text) > DEEPEST:
        raise refuse(f"its parentheses are more than {DEEPEST} deep", "write it flatter")
    try:
        trees = [tree for tree in parse(text, dialect=DIALECT) if tree is not None]
    except ParseError as error:
        first = error.errors[0] if error.errors else {}
        place = f" near character {first['col']}" if first.get("col") else ""
        words = str(first.get("description") or error).partition(" for <class")[0].rstrip(".")
        raise refuse(f"it is not SQL{place}: {words}", "write it as after `where`") from None
    except (SqlglotError, RecursionError) as error:
        raise refuse(f"it is not SQL: {str(error).splitlines()[0][:200]}", "write it as after `where`") from None
    if len(trees) != 1:
        raise refuse("it is not one condition" if trees else "it is empty", "write it as after `where`, without `;`")
    if not isinstance(trees[0], exp.Condition) or isinstance(trees[0], exp.Query):
        raise refuse(f"{_shown(trees[0])} is a statement", "write only the condition, as after `where`")
    # A parent of its own, so that a condition that is a column alone can be replaced like any other.
    return exp.paren(trees[0], copy=False)


def _depth(text: str) -> int:
    return max(_depths(text), default=0)


def _depths(text: str) -> Iterator[int]:
    depth = 0
    for letter in text:
        depth += (letter == OPENING) - (letter == ")")
        yield depth


def _shown(node: Any) -> str:
    text = str(node.sql(DIALECT, comments=False))
    return repr(text if len(text) <= 60 else f"{text[:57]}...")  # noqa: PLR2004 - a line of the terminal


def refuse(what: str, todo: str) -> ConditionError:
    """Return the error for a condition that cannot be used."""
    return ConditionError(f"--where cannot be used: {what}", todo=todo)
