"""A number computed again from the rows that it was made from, row by row, and what is said if they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlglot import exp, parse_one

from granary.dbt.lineage import DIALECT
from granary.warehouse.connection import Connection, query, quote_name
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from granary.explain.plan import Followed

NUMERIC = ("smallint", "integer", "bigint", "numeric", "real", "double precision")
VALUES = ("min(", "max(")
"""How formulas begin that give one of the values, such as an id: to add these up would mean nothing."""


@dataclass(frozen=True)
class Check:
    """A column of the rows of one relation, computed again from those of another.

    `stated` and `recomputed` are sums over all rows (the greatest value where there is no sum); `differing` counts the
    rows where they are not equal. A null states nothing; no rows to compute from are zero.
    """

    relation: str
    parent: str
    column: str
    formula: str
    rows: int
    stated: Any
    recomputed: Any
    differing: int


def numbers(
    connection: Connection,
    followed: Followed,
    tables: Mapping[str, str],
    joined: str,
    condition: str,
    formulas: Mapping[str, str],
    types: Mapping[str, str],
) -> list[Check]:
    """Return a check of each number of a link; formulas are over `this`, `parent` and the joined models."""
    if not formulas:
        return []
    child, parent = tables[followed.child.node], tables[followed.parent.node]
    again = ", ".join(f"{text} as again_{n}" for n, text in enumerate(formulas.values()))
    said = ", ".join(_compared(n, name, types[name], followed.link.words[name]) for n, name in enumerate(formulas))
    (row,) = query(
        connection,
        f"with again as (select this.explained_row, {again} from {child} as this"
        f" cross join {parent} as parent{joined} where {condition} group by this.explained_row)"
        f" select count(*), {said} from {child} as this left join again on this.explained_row = again.explained_row",
    )
    values = iter(row[1:])
    return [
        Check(
            relation=followed.child.relation,
            parent=followed.parent.relation,
            column=name,
            formula=followed.link.words[name],
            rows=int(row[0]),
            stated=next(values),
            recomputed=next(values),
            differing=int(next(values)),
        )
        for name in formulas
    ]


def _compared(number: int, name: str, kind: str, formula: str) -> str:
    stated, again = f"this.{quote_name(name)}", f"again.again_{number}"
    if kind.startswith(NUMERIC) and not formula.startswith(VALUES):
        totals = f"sum({stated}), coalesce(sum({again}) filter (where {stated} is not null), 0)"
        stated, again = f"coalesce({stated}, 0)", f"coalesce({again}, 0)"
    else:
        totals = f"max({stated}::text), max({again}::text)"
    null = f"this.{quote_name(name)} is not null"
    return f"{totals}, count(*) filter (where {null} and {stated} is distinct from {again})"


def differences(checks: Iterable[Check]) -> list[str]:
    """Return a sentence for each number that is not what its rows give."""
    return [
        f"{one.relation}.{one.column} is {one.stated}, and {one.parent} gives {one.recomputed}"
        f"{_apart(one)} ({one.differing:,} of {plural(one.rows, 'row')} differ)"
        for one in checks
        if one.differing
    ]


def _apart(one: Check) -> str:
    try:
        return f": {one.recomputed - one.stated:+}"
    except TypeError:
        return ""


def columns_of(formula: str) -> Sequence[str]:
    """Return the parent's columns in an expression, each once."""
    found = (column.name for column in parse_one(formula, dialect=DIALECT).find_all(exp.Column))
    return list(dict.fromkeys(found))
