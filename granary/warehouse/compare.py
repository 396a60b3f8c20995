"""Two builds of a table, compared: which rows are in one only, which differ, and in what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granary.warehouse.connection import columns_of, connect, execute, query, quote_name, quote_relation
from granary.warehouse.errors import unknown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

KEY = """
    select array(
        select columns.attname::text
        from unnest(indexes.indkey::smallint[]) with ordinality as parts (number, position)
        inner join pg_attribute as columns on columns.attrelid = indexes.indrelid and columns.attnum = parts.number
        order by parts.position
    )
    from pg_index as indexes
    inner join pg_class as names on names.oid = indexes.indexrelid
    where indexes.indrelid = to_regclass($1) and indexes.indisunique and indexes.indisvalid and indexes.indpred is null
    order by names.relname not like '%\\_grain', names.relname
    limit 1
"""


@dataclass(frozen=True)
class Difference:
    """What differs between two builds of a table, from `old` to `new` (both `schema.name`).

    `key` are the columns that tell which rows are the same one; without any, a row that changed counts as one removed
    and one added. `columns` has the changed rows by column; `added_columns`, `removed_columns` and `retyped_columns`
    are not compared. `examples` are rows that were added, removed or changed, with `[old, new]` where a value differs.
    """

    old: str
    new: str
    key: tuple[str, ...]
    rows_old: int
    rows_new: int
    added: int
    removed: int
    changed: int
    columns: Mapping[str, int]
    added_columns: tuple[str, ...]
    removed_columns: tuple[str, ...]
    retyped_columns: tuple[str, ...]
    examples: tuple[dict[str, Any], ...]

    @property
    def same(self) -> bool:
        """Whether there is no difference at all."""
        shapes = self.added_columns or self.removed_columns or self.retyped_columns
        return not (self.added or self.removed or self.changed or shapes)


def compare(settings: Settings, name: str, old: str, new: str, examples: int = 3) -> Difference:
    """Compare the table `name` of the schema `old` with that of the schema `new`, in one snapshot of both.

    Raises:
        GranaryError: there is no such table in one of them.
    """
    with connect(settings, role="transformer") as connection:
        execute(connection, "set transaction isolation level repeatable read, read only")
        before, after = _columns(connection, old, name), _columns(connection, new, name)
        common = [column for column in before if before[column] == after.get(column)]
        key = tuple(part for part in _key(connection, new, name) or _key(connection, old, name))
        if not set(key) <= set(common):
            key = ()
        counts = _Comparison(quote_relation(old, name), quote_relation(new, name), key, common)
        total = query(connection, counts.sql())[0]
        rows_old, rows_new, added, removed, changed, *by_column = (int(str(value)) for value in total)
        rest = [column for column in common if column not in key]
        shown = [row for kind in ("added", "removed", "changed") for row in counts.examples(connection, kind, examples)]
    return Difference(
        f"{old}.{name}", f"{new}.{name}", key, rows_old, rows_new, added, removed, changed,
        {column: count for column, count in zip(rest, by_column, strict=True) if count},
        tuple(column for column in after if column not in before),
        tuple(column for column in before if column not in after),
        tuple(column for column in before if column in after and before[column] != after[column]),
        tuple(shown),
    )  # fmt: skip


@dataclass(frozen=True)
class _Comparison:
    """The statements: both tables joined by key; without a key, by everything, equal rows numbered."""

    old: str
    new: str
    key: Sequence[str]
    columns: Sequence[str]

    def _side(self, relation: str) -> str:
        names = ", ".join(map(quote_name, self.columns))
        number = "1" if self.key else f"row_number() over (partition by {names})"
        return f"(select {names}, {number} as number__ from {relation})"

    def _joined(self) -> str:
        names = self.key or self.columns
        # Equality alone can be hashed or merged in a full join; without a key, null must equal null, so rows are texts.
        on = " and ".join(f"o.{quote_name(c)} = n.{quote_name(c)}" for c in names) if self.key else self._as_text()
        sides = f"{self._side(self.old)} as o full outer join {self._side(self.new)} as n"
        return f"{sides} on {on} and o.number__ = n.number__"

    def _as_text(self) -> str:
        sides = (", ".join(f"{side}.{quote_name(c)}" for c in self.columns) for side in "on")
        return " = ".join(f"cast(row({side}) as text)" for side in sides)

    def _differs(self, column: str) -> str:
        return f"o.{quote_name(column)} is distinct from n.{quote_name(column)}"

    def _rest(self) -> list[str]:
        return [column for column in self.columns if column not in self.key]

    def _condition(self, kind: str) -> str:
        if kind == "changed":
            different = " or ".join(map(self._differs, self._rest())) if self.key else ""
            return f"o.number__ is not null and n.number__ is not null and ({different or 'false'})"
        here, there = ("n", "o") if kind == "added" else ("o", "n")
        return f"{there}.number__ is null and {here}.number__ is not null"

    def sql(self) -> str:
        """Return the query for the counts: rows of both, added, removed, changed, and changed by column."""
        both = "o.number__ is not null and n.number__ is not null"
        counts = [
            "count(o.number__)", "count(n.number__)",
            *(f"count(*) filter (where {self._condition(kind)})" for kind in ("added", "removed", "changed")),
            *(
                f"count(*) filter (where {both} and {self._differs(column)})" if self.key else "0"
                for column in self._rest()
            ),
        ]  # fmt: skip
        return f"select {', '.join(counts)} from {self._joined()}"

    def examples(self, connection: Connection, kind: str, limit: int) -> list[dict[str, Any]]:
        """Return a few rows of a kind, by key: whole, or with the old and new value of what changed."""
        if not limit or (kind == "changed" and not self.key):
            return []
        side = "o" if kind == "removed" else "n"
        wanted = [f"{side}.{quote_name(c)}::text" for c in self.columns]
        wanted += [f"o.{quote_name(c)}::text" for c in self.columns]
        order = ", ".join(f"{side}.{quote_name(c)}" for c in self.key or self.columns[:1])
        sql = f"select {', '.join(wanted)} from {self._joined()} where {self._condition(kind)}"
        sql += f" order by {order} limit {limit}"
        found = []
        for row in query(connection, sql):
            now, before = row[: len(self.columns)], row[len(self.columns) :]
            values: dict[str, Any] = {"kind": kind}
            for column, value, earlier in zip(self.columns, now, before, strict=True):
                if kind != "changed" or column in self.key:
                    values[column] = value
                elif value != earlier:
                    values[column] = [earlier, value]
            found.append(values)
        return found


def _columns(connection: Connection, schema: str, name: str) -> dict[str, str]:
    found = columns_of(connection, quote_relation(schema, name))
    if not found:
        every = "select tablename::text from pg_tables where schemaname = $1"
        tables = query(connection, every, schema)
        known = [f"{schema}.{table}" for (table,) in tables]
        raise unknown("table", f"{schema}.{name}", known, todo="see `granary psql -c '\\dt marts.*'`")
    return found


def _key(connection: Connection, schema: str, name: str) -> list[str]:
    found = query(connection, KEY, quote_relation(schema, name))
    return [str(column) for column in found[0][0]] if found else []
