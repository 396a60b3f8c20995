"""Trace rows of a mart to the loads, files and lines that they were made from, and compute their numbers again.

Each model on the route gets a temporary table with those of its rows that lead to the rows in question; the transaction
is made read-only before the condition that a person typed is run, and everything is of one snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from granary.dbt import manifest as dbt_manifest
from granary.dbt.catalog import Catalog
from granary.dbt.lineage import column_lineage
from granary.explain import check
from granary.explain.archived import Away
from granary.explain.condition import ConditionError, condition, refuse
from granary.explain.links import Model, find_mart, model_of
from granary.explain.origins import Origin, origins
from granary.explain.plan import Followed, Plan, beside, plan, tree
from granary.warehouse import provenance
from granary.warehouse.connection import Connection, connect, execute, query, quote_name, reason
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.dbt.lineage import Columns
    from granary.warehouse.settings import Settings

ROLE = "transformer"
"""Reads raw, ops and marts, and may change nothing of the first two."""
SECONDS = 60
DATES = ("date",)


@dataclass(frozen=True)
class Node:
    """A relation on the route to the sources; `rows` are those that lead to the rows in question, where traced."""

    depth: int
    relation: str
    rows: int | None
    repeated: bool


@dataclass(frozen=True)
class Explanation:
    """Where rows of a mart came from.

    `rows` are the first of the `matched` ones, without personal columns. `column_path` follows one column. `beside` are
    relations that dbt reads for the mart and that say nothing of these numbers. `differences` are sentences; with none,
    the mart's numbers are those of its facts, and these those of the raw rows.
    """

    mart: str
    condition: str
    matched: int
    rows: tuple[Mapping[str, Any], ...]
    hidden: tuple[str, ...]
    column: str | None
    column_path: tuple[str, ...]
    path: tuple[Node, ...]
    beside: tuple[str, ...]
    origins: tuple[Origin, ...]
    replaced: tuple[provenance.Load, ...]
    refused: tuple[provenance.RefusedRow, ...]
    checks: tuple[check.Check, ...]
    not_computed: tuple[str, ...]
    notes: tuple[str, ...]
    differences: tuple[str, ...]


def explain(settings: Settings, mart: str, where: str, *, column: str | None = None, limit: int = 10) -> Explanation:
    """Explain the rows of a mart that meet a condition; `limit` bounds the rows and loads that are given in full.

    Raises:
        ConditionError: there is no such mart or column, or the condition is wrong.
        GranaryError: no row meets the condition, or tracing takes too long.
    """
    manifest = dbt_manifest.load(dbt_manifest.prepare(settings))
    root = find_mart(manifest, mart)
    with connect(settings, role=ROLE) as connection:
        execute(connection, "set transaction isolation level repeatable read")
        execute(connection, f"set local statement_timeout = '{SECONDS}s'")
        execute(connection, "set local search_path = pg_catalog, pg_temp")
        return _Trace(settings, connection, manifest, root).run(where, column, limit)


class _Trace:
    """One explanation at work, within one transaction that is rolled back."""

    def __init__(self, settings: Settings, connection: Connection, manifest: Mapping[str, Any], root: Model) -> None:
        self.settings, self.connection, self.manifest, self.root = settings, connection, manifest, root
        self.catalog = Catalog(connection)
        self.tables: dict[str, str] = {}
        self.joins: dict[str, str] = {}
        self.made = 0
        self.counts: dict[str, int] = {}

    def run(self, where: str, column: str | None, limit: int) -> Explanation:
        root = self.root
        columns = self.columns(root)
        if column is not None and column not in columns:
            raise ConditionError(f"{root.relation} has no column {column!r}", todo=f"it has {', '.join(columns)}")
        chosen = condition(where, root.name, columns)
        route = self.route(column)
        self.gather(route, chosen)
        steps = tree(self.manifest, route)
        order = {step.relation: number for number, step in reversed(list(enumerate(steps)))}
        found = sorted(
            origins(self.connection, route, self.tables, limit, self.away), key=lambda one: order[one.relation]
        )
        checks = [one for followed in route.links for one in self.check(followed)]
        keys = self.keys(route)
        days = self.days(route)
        return Explanation(
            mart=root.relation,
            condition=where,
            matched=self.counts[root.node],
            rows=self.rows(limit),
            hidden=tuple(sorted(root.personal & set(columns))),
            column=column,
            column_path=tuple(self.column_path(route, root, column)) if column else (),
            path=tuple(Node(step.depth, step.relation, self.count(step.node, route), step.repeated) for step in steps),
            beside=tuple(beside(self.manifest, route)),
            origins=tuple(found),
            replaced=tuple(
                load
                for one in found
                for load in provenance.superseded(self.connection, one.source, one.table, one.units)
            ),
            refused=tuple(
                row
                for one in found
                for row in provenance.refused(self.connection, one.source, one.table, one.units, days, keys)
            ),
            checks=tuple(checks),
            not_computed=self.not_computed(route, column),
            notes=(root.reason,) if root.reason else (),
            differences=(*check.differences(checks), *(words for one in found for words in one.differences)),
        )

    def columns(self, model: Model) -> Columns:
        columns = self.catalog.columns(model.relation)
        if not columns:
            raise GranaryError(f"{model.relation} does not exist yet", todo="build it with `granary run`")
        return columns

    def route(self, column: str | None) -> Plan:
        """Return what to follow: one column where it is known how it is made, else all of them."""
        known = {one for link in self.root.links for one in (*link.numbers, *(link.columns or ()))}
        # Other rows of a model whose rows are traced already (the month before, say) would only blur which is which.
        main = {link.parent for link in self.root.links if link.columns is None}
        aside = {name for link in self.root.links if link.parent in main for name in link.columns or ()}
        every = frozenset(self.columns(self.root))
        wanted = frozenset([column]) if column is not None and column in known else every - aside
        return plan(self.manifest, self.root, wanted, self.catalog.columns)

    def gather(self, route: Plan, chosen: str) -> None:
        """Fill a temporary table per model with the rows that lead to the rows in question."""
        names = dict.fromkeys(name for followed in route.links for name in followed.link.join)
        joined = [model_of(self.manifest, name) for name in names]
        for model in route.models:
            self.tables[model.node] = self.table(model)
        copies = {model.node: self.table(model) for model in joined}
        self.away = Away(self.settings, self.connection, route.models)
        # No table can be created from here on, and no table but these can be written.
        execute(self.connection, "set transaction read only")
        # What is joined may be a view with windows, of which the planner knows little: it is written down once.
        for model in joined:
            execute(self.connection, f"insert into {copies[model.node]} select 0, * from {model.sql_name}")
            execute(self.connection, f"analyze {copies[model.node]}")
        self.joins = copies
        for model in route.models:
            if model is route.models[0]:
                self.fill_root(route, chosen)
            else:
                self.plan_for(route.into(model))
                parts = [self.rows_through(followed) for followed in route.into(model)]
                self.fill(model, " union ".join(parts))
            execute(self.connection, f"analyze {self.tables[model.node]}")

    def plan_for(self, links: list[Followed]) -> None:
        """Keep Postgres from looking up row by row what is joined by several columns.

        It takes a week and a category for 34 keys where there are 2,000, and would read each day's lines for each of
        them (53 s instead of 1 s).
        """
        execute(self.connection, f"set local enable_nestloop = {'off' if any(f.link.join for f in links) else 'on'}")

    def table(self, model: Model) -> str:
        """Create an empty temporary table with the columns of a model, and return its name."""
        self.columns(model)
        name = f"explained_{self.made}"
        self.made += 1
        execute(
            self.connection,
            f"create temporary table {name} on commit drop as"
            f" select 0::bigint as explained_row, * from {model.sql_name} with no data",
        )
        return f"pg_temp.{name}"

    def fill_root(self, route: Plan, chosen: str) -> None:
        order = [quote_name(name) for name in self.key_columns() if name in self.columns(self.root)]
        numbered = f"row_number() over ({'order by ' + ', '.join(order) if order else ''})"
        try:
            with self.connection.transaction():
                execute(
                    self.connection,
                    f"insert into {self.tables[self.root.node]} select {numbered}, this.*"
                    f" from {self.root.sql_name} as this where {chosen}",
                )
        except psycopg.errors.QueryCanceled:
            raise self.too_slow() from None
        except psycopg.Error as error:
            raise refuse(reason(error).partition(" LINE ")[0], "fix it") from None
        self.counts[self.root.node] = self.size(self.root)
        if not self.counts[self.root.node]:
            raise GranaryError(f"no row of {self.root.relation} meets the condition", todo="widen it")

    def fill(self, model: Model, rows: str) -> None:
        try:
            execute(
                self.connection,
                f"insert into {self.tables[model.node]} select row_number() over (), found.* from ({rows}) as found",
            )
        except psycopg.errors.QueryCanceled:
            raise self.too_slow() from None
        self.counts[model.node] = self.size(model)

    def too_slow(self) -> GranaryError:
        return GranaryError(
            f"tracing these rows takes longer than {SECONDS} s", self.root.relation, "choose fewer with --where"
        )

    def size(self, model: Model) -> int:
        return int(query(self.connection, f"select count(*) from {self.tables[model.node]}")[0][0])

    def rows_through(self, followed: Followed) -> str:
        """Return the query for the rows of the parent that one link leads to."""
        loads = self.loads(followed)
        return (
            f"select parent.* from {self.away.relation(followed.parent)} as parent where {loads}exists ("
            f"select from {self.tables[followed.child.node]} as this{self.joined(followed)}"
            f" where {condition_of(followed)})"
        )

    def joined(self, followed: Followed) -> str:
        return "".join(
            f" cross join {self.joins[model_of(self.manifest, name).node]} as {quote_name(name)}"
            for name in followed.link.join
        )

    def loads(self, followed: Followed) -> str:
        """Return the condition on load ids that spares Postgres from reading a whole raw table.

        They are written out: Postgres hashes a list of constants, and compares the result of a query one by one (5 s
        instead of 1 s for all loads of a year).
        """
        child, link = self.tables[followed.child.node], followed.link
        sql = f"select distinct log.load_id from {child} as log"
        if link.loads:
            ((name, column),) = link.loads.items()
            log, shared = model_of(self.manifest, name).sql_name, quote_name(column)
            sql = f"select distinct log.load_id from {log} as log where log.{shared} in (select {shared} from {child})"
        elif not followed.parent.source or link.match.get("load_id") != 'parent."load_id"':
            return ""
        numbers = [int(row[0]) for row in query(self.connection, sql) if row[0] is not None]
        self.away.fetch(followed.parent, numbers)
        ids = map(str, numbers)
        return f"parent.load_id = any('{{{', '.join(ids)}}}'::bigint[]) and "

    def check(self, followed: Followed) -> list[check.Check]:
        """Compute the numbers of a link again from the parent's rows."""
        types = self.columns(followed.child)
        numbers = {
            name: f"cast({text} as {types[name]})"
            for name, text in followed.link.numbers.items()
            if name in followed.wanted and name not in followed.child.personal
        }
        self.plan_for([followed])
        return check.numbers(
            self.connection,
            followed,
            self.tables,
            self.joined(followed),
            condition_of(followed),
            numbers,
            {name: types[name] for name in numbers},
        )

    def rows(self, limit: int) -> tuple[Mapping[str, Any], ...]:
        names = [name for name in self.columns(self.root) if name not in self.root.personal]
        shown = ", ".join(quote_name(name) for name in names)
        table = self.tables[self.root.node]
        rows = query(self.connection, f"select {shown} from {table} order by explained_row limit {int(limit)}")
        return tuple(dict(zip(names, row, strict=True)) for row in rows)

    def key_columns(self) -> list[str]:
        return [name for link in self.root.links[:1] for name in link.match]

    def days(self, route: Plan) -> list[str]:
        """Return the days that the rows are of, where a column of theirs is the day of their facts."""
        types = self.columns(self.root)
        names = [
            name
            for followed in route.links
            if followed.child.node == self.root.node
            for name, text in followed.link.match.items()
            if types.get(name) in DATES and text == f'parent."{name}"'
        ]
        return sorted({value for name in names for value in self.values(name)})

    def keys(self, route: Plan) -> dict[str, list[str]]:
        """Return the columns and values that a source's row must have to belong to these rows, days aside."""
        types = self.columns(self.root)
        return {
            name: self.values(name)
            for followed in route.links[:1]
            for name, text in followed.link.match.items()
            if types.get(name) not in DATES and text == f'parent."{name}"' and name != "load_id"
        }

    def values(self, name: str) -> list[str]:
        table = self.tables[self.root.node]
        return [str(row[0]) for row in query(self.connection, f"select distinct {quote_name(name)}::text from {table}")]

    def count(self, node: str, route: Plan) -> int | None:
        """Return how many rows of a node lead to the rows in question; of a source table, those of its staging view."""
        if node in self.counts:
            return self.counts[node]
        parents = self.manifest["parent_map"]
        views = [model.node for model in route.models if model.source and node in parents[model.node]]
        return self.counts[views[0]] if views else None

    def not_computed(self, route: Plan, column: str | None) -> tuple[str, ...]:
        """Return the columns of the mart that are not computed again."""
        if not self.root.links:
            return ()
        numbers = {name for f in route.links if f.child.node == self.root.node for name in f.link.numbers}
        keys = {name for f in route.links if f.child.node == self.root.node for name in f.link.match}
        names = [column] if column else list(self.columns(self.root))
        return tuple(name for name in names if name not in numbers | keys)

    def column_path(self, route: Plan, model: Model, column: str) -> list[str]:
        """Return how a column is made, from the mart up to the raw tables."""
        if model.source:
            return self.raw_columns(model, column)
        steps: list[str] = []
        for followed in route.links:
            if followed.child.node != model.node:
                continue
            link, parent = followed.link, followed.parent
            parent_columns = set(self.columns(parent))
            if column in link.numbers or column in link.match:
                words, used = link.words[column], check.columns_of(link.numbers.get(column) or link.match[column])
            elif link.columns is not None and column in link.columns and column in parent_columns:
                words, used = column, [column]
            else:
                continue
            steps.append(f"{model.relation}.{column} = {words} of {parent.relation}")
            for name in used:
                if name in parent_columns:
                    steps += [step for step in self.column_path(route, parent, name) if step not in steps]
        return steps

    def raw_columns(self, model: Model, column: str) -> list[str]:
        assert model.source is not None
        raw = f"raw_{model.source[0]}.{model.source[1]}"
        view = query(self.connection, "select pg_get_viewdef(to_regclass($1))", model.sql_name)[0][0]
        found = column_lineage(str(view), {raw: self.catalog.columns(raw)}).get(column, []) if view else []
        return [f"{model.relation}.{column} from {relation}.{name}" for relation, name in found]


def condition_of(followed: Followed) -> str:
    """Return the condition on `this`, `parent` and the joined models that a link declares."""
    parts = [f"this.{quote_name(name)} = {text}" for name, text in followed.link.match.items()]
    parts += [f"({text})" for text in (*followed.link.join.values(), followed.link.where) if text]
    return " and ".join(parts) or "true"
