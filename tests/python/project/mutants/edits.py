"""Small edits of a model's SQL, such as somebody makes by mistake: each a change of one expression."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sqlglot import exp, parse_one

Change = Callable[[exp.Expression], exp.Expression | None]
"""What an expression is replaced with, which stays as it is, or None where there is nothing to change."""


RELATION = re.compile(r'(?:"?\w+"?\.)?"\w+"\."?(\w+)"?|__dbt__cte__(?=\w)')
"""A model as a build or as a unit test names it: the same edit is made in both."""
NUMBER = re.compile(r"\b\d+(\.\d+)?\b")


@dataclass(frozen=True)
class Edit:
    """A kind of edit, at the nth expression that reads like this but for its numbers, which tests may set."""

    kind: str
    place: str
    nth: int
    shown: str = field(compare=False)

    def __str__(self) -> str:
        """Return the edit on one line."""
        place = " ".join(self.shown.split())
        return f"{self.kind}: {place[:90]}{'...' if len(place) > 90 else ''}"


def edits(sql: str) -> list[Edit]:
    """Return every edit that can be made in a statement."""
    return [edit for edit, _, _ in _places(parse_one(sql, read="postgres"))]


def edited(sql: str, edit: Edit | None) -> str | None:
    """Return a statement with an edit, None if it has no such place; without an edit, as it is written anew."""
    tree = parse_one(sql, read="postgres")
    if edit is None:
        return tree.sql("postgres")
    for other, node, changed in _places(tree):
        if other == edit:
            if node is tree:
                return changed.sql("postgres")
            node.replace(changed)
            return tree.sql("postgres")
    return None


def _places(tree: exp.Expression) -> Iterator[tuple[Edit, exp.Expression, exp.Expression]]:
    seen: Counter[tuple[str, str]] = Counter()
    for node in list(tree.walk()):
        for kind, change in KINDS.items():
            changed = change(node)
            if changed is not None:
                shown = node.parent if isinstance(node, exp.Literal) and node.parent else node
                text = RELATION.sub(lambda found: found[1] or "", shown.sql("postgres"))
                place = (kind, NUMBER.sub("#", text))
                yield Edit(*place, seen[place], text), node, changed
                seen[place] += 1


def _other(one: type[exp.Expression], instead: type[exp.Expression]) -> Change:
    return lambda node: instead(**node.copy().args) if type(node) is one else None


def _without_condition(node: exp.Expression) -> exp.Expression | None:
    """Leave a condition out of a where, a having, a filter or a join."""
    above = node.parent
    while isinstance(above, exp.And | exp.Paren):
        above = above.parent
    holds = isinstance(above, exp.Where | exp.Having) or (
        isinstance(above, exp.Join) and _is_within(node, above.args.get("on"))
    )
    return exp.true() if holds and not isinstance(node, exp.And | exp.Paren | exp.Boolean) else None


def _is_within(node: exp.Expression, root: exp.Expression | None) -> bool:
    while node is not None and node is not root:
        node = node.parent  # type: ignore[assignment]
    return node is root and root is not None


def _join_kind(node: exp.Expression) -> exp.Expression | None:
    if not isinstance(node, exp.Join) or not node.args.get("on") or node.side in ("RIGHT", "FULL"):
        return None
    node = node.copy()
    node.set("side", None if node.side else "LEFT")
    node.set("kind", None)
    return node


def _fan_out(node: exp.Expression) -> exp.Expression | None:
    """Join with a table that has every row twice."""
    if not isinstance(node, exp.Join) or not node.args.get("on") or not isinstance(node.this, exp.Table):
        return None
    node = node.copy()
    name = node.this.alias_or_name
    plain = node.this.copy()
    plain.set("alias", None)
    twice = parse_one(f"(select * from {plain.sql('postgres')} union all select * from {plain.sql('postgres')}) as t")
    subquery = parse_one(f"select * from {twice.sql('postgres')}", read="postgres").args["from_"].this
    subquery.set("alias", exp.TableAlias(this=exp.to_identifier(name)))
    node.set("this", subquery)
    return node


def _first_of_coalesce(node: exp.Expression) -> exp.Expression | None:
    return node.this.copy() if isinstance(node, exp.Coalesce) and node.expressions else None


def _count_all(node: exp.Expression) -> exp.Expression | None:
    if not isinstance(node, exp.Count) or not isinstance(node.this, exp.Distinct):
        return None
    return exp.Count(this=node.this.expressions[0].copy())


def _without_distinct(node: exp.Expression) -> exp.Expression | None:
    if not isinstance(node, exp.Select) or not node.args.get("distinct") or node.args["distinct"].args.get("on"):
        return None
    node = node.copy()
    node.set("distinct", None)
    return node


def _union_distinct(node: exp.Expression) -> exp.Expression | None:
    if not isinstance(node, exp.Union) or node.args.get("distinct"):
        return None
    node = node.copy()
    node.set("distinct", True)
    return node


def _without_partition(node: exp.Expression) -> exp.Expression | None:
    if not isinstance(node, exp.Window) or not node.args.get("partition_by"):
        return None
    node = node.copy()
    node.set("partition_by", None)
    return node


def _other_order(node: exp.Expression) -> exp.Expression | None:
    if not isinstance(node, exp.Ordered) or not node.find_ancestor(exp.Window, exp.Distinct, exp.Select):
        return None
    node = node.copy()
    node.set("desc", not node.args.get("desc"))
    return node


def _not(node: exp.Expression) -> exp.Expression | None:
    if not isinstance(node, exp.If) or not isinstance(node.parent, exp.Case) or node.parent.this:
        return None
    changed = node.copy()
    changed.set("this", exp.Not(this=exp.Paren(this=changed.this)))
    return changed


def _one_more(node: exp.Expression) -> exp.Expression | None:
    if not isinstance(node, exp.Literal) or node.is_string or not node.this.isdigit():
        return None
    if isinstance(node.parent, exp.DataTypeParam | exp.Interval) or node.find_ancestor(exp.Group):
        return None
    return exp.Literal.number(int(node.this) + 1)


def _swapped(node: exp.Expression) -> exp.Expression | None:
    """Give a column of a select the place of the next one of the same type."""
    if not isinstance(node, exp.Alias) or not isinstance(node.parent, exp.Select) or node.arg_key != "expressions":
        return None
    columns = node.parent.expressions
    following = columns[node.index + 1] if node.index is not None and node.index + 1 < len(columns) else None
    if not isinstance(following, exp.Alias) or not isinstance(node.this, exp.Cast):
        return None
    if not isinstance(following.this, exp.Cast) or following.this.to != node.this.to or following.this == node.this:
        return None
    return exp.alias_(following.this.copy(), node.alias)


KINDS: dict[str, Change] = {
    "< for <=": _other(exp.LTE, exp.LT),
    "<= for <": _other(exp.LT, exp.LTE),
    "> for >=": _other(exp.GTE, exp.GT),
    ">= for >": _other(exp.GT, exp.GTE),
    "average for sum": _other(exp.Sum, exp.Avg),
    "max for min": _other(exp.Min, exp.Max),
    "min for max": _other(exp.Max, exp.Min),
    "- for +": _other(exp.Add, exp.Sub),
    "+ for -": _other(exp.Sub, exp.Add),
    "* for /": _other(exp.Div, exp.Mul),
    "condition left out": _without_condition,
    "inner for left join, or left for inner": _join_kind,
    "join with every row twice": _fan_out,
    "coalesce left out": _first_of_coalesce,
    "count for count distinct": _count_all,
    "distinct left out": _without_distinct,
    "union for union all": _union_distinct,
    "partition by left out": _without_partition,
    "other order": _other_order,
    "case turned round": _not,
    "one more": _one_more,
    "value of the next column": _swapped,
}
"""The kinds of edits."""
