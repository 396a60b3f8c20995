"""What the ledger of publishes says of the marts: what each was after which publish, and which of its rows changed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granary.twin.carriers import Column, column
from granary.twin.copies import PERSONAL, SHARED, Copy
from granary.warehouse import published
from granary.warehouse.connection import query, quote_name
from granary.warehouse.published import Event, erasures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from granary.warehouse.connection import Connection

SCHEMA = "marts"
RECORDS = """
    select records.mart, records.publish_id, records.row_count, records.digest::text, records.plan
    from ops.published_marts as records
    inner join ops.publishes as publishes on records.publish_id = publishes.publish_id
    where publishes.schema_name = $1
    order by records.mart, records.publish_id
"""
THERE = """
    select
        known.mart, known.plan ->> 'published', to_regclass(ops.history_of($1, known.mart)) is not null,
        ops.has_key(known.plan), has_table_privilege(ops.role_name('analyst'), shown, 'select')
    from (
        select
            names.mart, ops.plan_now($1, names.mart) as plan,
            to_regclass(format('%I.%I', $1::text, names.mart)) as shown
        from unnest($2::text[]) as names (mart)
    ) as known
    where to_regclass(known.plan ->> 'published') is not null and shown is not null
"""
PAST = """
    select ops.as_of_query(ops.plan_now($1, $2) || jsonb_build_object('columns', to_jsonb($3::text[])), $4)
"""


@dataclass(frozen=True)
class Mark:
    """What is to be known of a mart to tell whether a copy of it is the same: rows, digest, and a hash of its shape."""

    rows: int
    digest: str | None
    shape: str


@dataclass(frozen=True)
class Mart:
    """A mart as a publish left it.

    Attributes:
        name: its name.
        mark: what it was.
        columns: those that it had.
        masked: names of the columns with a mask.
        is_shared: whether `analyst` may read it.
        table: where its rows are, if this publish is shown, as SQL.
        unit: columns by whose values rows are rewritten, none if all are.
        history: the table of what publishes changed in it, as SQL; empty if there is none.
    """

    name: str
    mark: Mark
    columns: tuple[Column, ...]
    masked: frozenset[str]
    is_shared: bool
    table: str
    unit: tuple[str, ...]
    history: str

    def copies(self) -> Iterator[tuple[Copy, bool]]:
        """Yield the copies that hold this mart, and whether its masks are on there."""
        if self.is_shared:
            yield SHARED, True
        if self.masked or not self.is_shared:
            yield PERSONAL, False

    def selected(self, *, masks: bool) -> str:
        """Return the select list of Postgres for the rows as a copy holds them."""
        return ", ".join(
            one.taken if not (masks and one.name in self.masked) else _carried_mask(one) for one in self.columns
        )

    def seen(self) -> str:
        """Return the select list of Postgres for the rows as `analyst` sees them, in their own types."""
        return ", ".join(_mask(one) if one.name in self.masked else one.sql for one in self.columns)


@dataclass(frozen=True)
class Ledger:
    """What was published: the line of publishes that are kept, and what each left in each mart.

    Attributes:
        line: publishes that are kept, in order, and at the end what came last.
        erasures: a text that is another once somebody more is forgotten.
        records: by mart, what each publish that wrote it left: its number, rows, digest and plan.
        there: by mart, what it is in the warehouse now: its table, and whether it has a history, a key, and `analyst`
            for a reader.
    """

    line: tuple[Event, ...]
    erasures: str
    records: Mapping[str, list[tuple[int, int, str | None, dict[str, Any]]]]
    there: Mapping[str, tuple[str, bool, bool, bool]]

    @property
    def kept(self) -> frozenset[int]:
        """The numbers of publishes that the marts can be shown as."""
        return frozenset(one.number for one in self.line if one.is_kept)

    @property
    def shown(self) -> int:
        """The number of the publish that the marts are as."""
        return self.line[-1].shows

    def state(self, publish: int) -> tuple[Mart, ...]:
        """Return the marts as a publish that is kept, or shown, left them."""
        return tuple(self._mart(name, publish) for name in self.there)

    def _mart(self, name: str, publish: int) -> Mart:
        """Return a mart as ops.mart_after has it: as it was last written by then, else as it was written first."""
        records = self.records[name]
        _, rows, digest, plan = next((one for one in reversed(records) if one[0] <= publish), records[0])
        table, has_history, has_key, is_shared = self.there[name]
        columns = tuple(column(one, plan["types"][one]) for one in plan["columns"])
        names = {one.name for one in columns}
        masked = names.intersection(plan.get("masked") or ())
        partition = [one for one in plan.get("partition") or () if one != "*"]
        unit = partition or (plan["key"] if has_key else [])
        shape = [[(one.name, one.kind, one.carrier) for one in columns], sorted(masked), is_shared]
        return Mart(
            name=name,
            mark=Mark(rows, digest, hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:16]),
            columns=columns,
            masked=frozenset(masked),
            is_shared=is_shared,
            table=table,
            unit=tuple(unit) if names.issuperset(unit) else (),
            history=f"publish_history.{quote_name(name)}" if has_history else "",
        )


def read(connection: Connection) -> Ledger:
    """Return the ledger as it is; the caller's transaction has one view of it if it is repeatable."""
    records: dict[str, list[tuple[int, int, str | None, dict[str, Any]]]] = {}
    for mart, *record in query(connection, RECORDS, SCHEMA):
        records.setdefault(str(mart), []).append(tuple(record))
    there = query(connection, THERE, SCHEMA, list(records))
    return Ledger(line(connection), erasures(connection), records, {str(name): tuple(now) for name, *now in there})


def line(connection: Connection) -> tuple[Event, ...]:
    """Return the publishes that are kept, in order, and at the end what came last."""
    return published.line(connection, SCHEMA)


def past(connection: Connection, mart: Mart, publish: int) -> str:
    """Return a query for the rows of a mart as a publish left them that is not shown now."""
    names = [one.name for one in mart.columns]
    return str(query(connection, PAST, SCHEMA, mart.name, names, publish)[0][0])


def types(mart: Mart) -> str:
    """Return the types of a mart's columns, as ops.digest_of takes them."""
    return json.dumps({one.name: one.kind for one in mart.columns})


def _mask(one: Column) -> str:
    """Return what `analyst` sees of a column with a mask, as ops.masked_query has it."""
    is_text = one.kind == "text"
    value = f"case when {one.sql} is not null then 'masked' end" if is_text else f"cast(null as {one.kind})"
    return f"{value} as {one.sql}"


def _carried_mask(one: Column) -> str:
    return _mask(one) if one.kind == "text" or one.carrier != "VARCHAR" else f"cast(null as text) as {one.sql}"


def changed(mart: Mart, before: int, after: int) -> str:
    """Return a query for the units of a mart, which has units and a history, in which two publishes differ."""
    return published.changed(mart.history, mart.unit, before, after)
