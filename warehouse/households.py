"""Where households are in the warehouse, and how to find one there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from warehouse.connection import Connection, columns_of, query, quote_name, quote_relation
from warehouse.forgotten import WHOLE, Key, canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

WHOLE_TYPES = frozenset({"smallint", "integer", "bigint"})
DIGITS = 18
"""Digits that any bigint can hold."""
TABLES = """
    select n.nspname::text, c.relname::text, a.attname::text
    from pg_class as c
    inner join pg_namespace as n on n.oid = c.relnamespace
    inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relkind in ('r', 'm') and c.relpersistence = 'p' and a.attname = any($1::text[])
        and n.nspname not in ('pg_catalog', 'information_schema')
    order by 1, 2, 3
"""


@dataclass(frozen=True)
class Place:
    """A column that holds households' numbers; with `condition` (SQL), only in rows that meet it."""

    schema: str
    table: str
    column: str
    condition: str = "true"

    @property
    def relation(self) -> str:
        """The quoted relation."""
        return quote_relation(self.schema, self.table)

    @property
    def name(self) -> str:
        """The relation as people write it."""
        return f"{self.schema}.{self.table}"


@dataclass(frozen=True)
class Mart:
    """A published mart that has households: the expression of its business date, and what of it is added up."""

    place: Place
    day: str
    measures: tuple[str, ...]


@dataclass(frozen=True)
class Map:
    """Where households are: raw tables, other tables that nobody builds anew, marts; the names of their columns.

    `nested` are raw columns of text that may hold JSON, `keys_before` those with the key that a row once had.

    `judge` says of a row as it was received whether it is "theirs", "perhaps" or "not theirs"; `numbers` returns those
    of the households that it may be of. `blank` takes the place of text that is taken out.
    """

    raw: tuple[Place, ...]
    nested: tuple[Place, ...]
    keys_before: tuple[Place, ...]
    kept: tuple[Place, ...]
    marts: tuple[Mart, ...]
    names: frozenset[str]
    judge: Callable[[Any, Callable[[str], bool]], str]
    numbers: Callable[[Any], set[str]]
    blank: dict[str, str]
    sources: frozenset[str]


def shown_values(column: dict[str, Any]) -> list[Any]:
    """Return the values that a profile shows of a column."""
    values = [column["minimum"], column["maximum"], *column["percentiles"], *(text for text, _ in column["top"])]
    return [value for value in values if value is not None]


def matching(connection: Connection, place: Place, household: str) -> str:
    """Return the condition for a household's rows, with its number as $1."""
    kind = columns_of(connection, place.relation)[place.column]
    column = quote_name(place.column)
    if kind in WHOLE_TYPES:
        same = (
            f"{column} = $1::bigint"
            if household.isascii() and household.isdigit() and len(household) <= DIGITS
            else "$1::text is null"
        )
    else:
        same = f"regexp_replace(trim({column}::text), '^{WHOLE.pattern}$', '\\1') = $1"
    return f"({same}) and ({place.condition})"


def households(connection: Connection, place: Place) -> list[str]:
    """Return every household that a column holds."""
    column = quote_name(place.column)
    rows = query(
        connection,
        f"select distinct {column}::text from {place.relation} where {column} is not null and ({place.condition})",
    )
    return [canonical(row[0]) for row in rows]


def places_named(connection: Connection, names: Collection[str]) -> list[Place]:
    """Return every column of a table in the database that has one of these names."""
    return [Place(*map(str, row)) for row in query(connection, TABLES, sorted(names))]


def present(
    connection: Connection, key: Key, places: Sequence[Place], subjects: Collection[str], where: Map | None = None
) -> dict[str, dict[str, list[str]]]:
    """Return which of these households (by hash) are still somewhere: hash -> number -> relations.

    With `where` also those in nested values, refused rows and profiles.
    """
    found: dict[str, dict[str, list[str]]] = {}
    known: dict[str, str] = {}

    def note(number: str, relation: str) -> None:
        subject = known.get(number) or known.setdefault(number, key.subject(number))
        if subject in subjects:
            relations = found.setdefault(subject, {}).setdefault(number, [])
            if relation not in relations:
                relations.append(relation)

    for place in places:
        for number in households(connection, place):
            note(number, place.name)
    if where:
        texts = [
            (place.name, f"select {quote_name(place.column)} from {place.relation}")
            for place in (*where.nested, *where.keys_before)
        ]
        texts.append(("ops.quarantine", "select payload::text from ops.quarantine where row_number > 0"))
        for relation, sql in texts:
            for (text,) in query(connection, sql):
                for number in where.numbers(text) if text else ():
                    note(number, relation)
        for (text,) in query(connection, "select profile::text from ops.profiles"):
            for column in json.loads(text)["columns"]:
                for value in shown_values(column) if column["name"] in where.names else ():
                    note(canonical(value), "ops.profiles")
    return found
