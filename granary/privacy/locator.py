"""Where households are in the warehouse, and how to find one there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from granary.privacy.suppression_list import WHOLE, Key, canonical
from granary.warehouse.connection import Connection, columns_of, query, quote_name, quote_relation

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

WHOLE_TYPES = frozenset({"smallint", "integer", "bigint"})
DIGITS = 18
"""Digits that any bigint can hold."""
COLUMNS = """
    select n.nspname::text, c.relname::text, a.attname::text
    from pg_class as c
    inner join pg_namespace as n on n.oid = c.relnamespace
    inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relkind in ('r', 'm', 'p') and c.relpersistence = 'p'
        and n.nspname not in ('pg_catalog', 'information_schema')
    order by 1, 2, 3
"""
Names = Mapping[str, frozenset[str]]
"""By relation (`schema.table`), the names under which its contract has a household's number."""


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
    """Where contracts and models say that households are. A column that only has such a name is none of them.

    `raw` are raw tables, `kept` other tables whose rows stay whatever is built, `built` those that dbt builds anew,
    `marts` the published ones. `keys_before` hold the key that a row once had, as JSON. `names` says under which names
    refused rows, earlier keys and profiles of a relation have a household's number.

    `judge` says of a row as it was received whether it is "theirs", "perhaps" or "not theirs"; `numbers` returns those
    of the households that it may be of. `blank` takes the place of text that is taken out.
    """

    raw: tuple[Place, ...]
    keys_before: tuple[Place, ...]
    kept: tuple[Place, ...]
    built: tuple[Place, ...]
    marts: tuple[Mart, ...]
    names: Names
    judge: Callable[[Any, frozenset[str], Callable[[str], bool]], str]
    numbers: Callable[[Any, frozenset[str]], set[str]]
    blank: dict[str, str]
    sources: frozenset[str]

    @property
    def places(self) -> tuple[Place, ...]:
        """Every column with households' numbers, in the order of their tables."""
        return tuple(sorted({*self.raw, *self.kept, *self.built}, key=str))


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


def table_columns(connection: Connection) -> list[Place]:
    """Return every column of every table in the database."""
    return [Place(*map(str, row)) for row in query(connection, COLUMNS)]


def holding(connection: Connection, key: Key, places: Sequence[Place], subjects: Collection[str]) -> Found:
    """Return which of these households (by hash) columns hold."""
    found = Found(key, subjects)
    for place in places:
        for number in households(connection, place):
            found.note(number, place.name)
    return found


def present(connection: Connection, key: Key, where: Map, places: Sequence[Place], subjects: Collection[str]) -> Found:
    """Return which of these households (by hash) are in columns, earlier keys, refused rows and profiles."""
    found = holding(connection, key, places, subjects)
    for place in where.keys_before:
        for (text,) in query(connection, f"select {quote_name(place.column)} from {place.relation}"):
            for number in where.numbers(text, where.names[place.name]) if text else ():
                found.note(number, place.name)
    refused = "select 'raw_' || source || '.' || table_name, payload::text from ops.quarantine where row_number > 0"
    for relation, text in query(connection, refused):
        for number in where.numbers(text, where.names[relation]) if relation in where.names else ():
            found.note(number, "ops.quarantine")
    for relation, text in query(connection, "select relation, profile::text from ops.profiles"):
        for column in json.loads(text)["columns"]:
            for value in shown_values(column) if column["name"] in where.names.get(relation, ()) else ():
                found.note(canonical(value), "ops.profiles")
    return found


@dataclass
class Found:
    """Numbers that are those of households known by hash: hash -> number -> relations."""

    key: Key
    subjects: Collection[str]
    relations: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)

    def note(self, number: str, relation: str) -> None:
        """Take note of a number in a relation, if it is one of theirs."""
        subject = self.known.get(number) or self.known.setdefault(number, self.key.subject(number))
        if subject in self.subjects:
            relations = self.relations.setdefault(subject, {}).setdefault(number, [])
            if relation not in relations:
                relations.append(relation)
