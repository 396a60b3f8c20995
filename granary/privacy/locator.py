"""Finds data subjects in the database: the rows of one, and which of those who are known by hash are there."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from granary.privacy.filter import identities_in
from granary.privacy.identity import Identity, identity_of
from granary.warehouse.connection import Connection, columns_of, query, quote_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from granary.privacy.locations import Locations, Place
    from granary.privacy.suppression_list import SuppressionList

WHOLE_TYPES = frozenset({"smallint", "integer", "bigint"})
LARGEST = 2**63 - 1
Found = dict[Identity, set[str]]
"""The relations by who is in them."""


def matching(connection: Connection, place: Place, identity: Identity) -> tuple[str, Any]:
    """Return the condition for somebody's rows, and its parameter $1.

    Only `identity_of` knows which spellings are the same key, so those of a column are looked up first.
    """
    column, condition = quote_name(place.column), f"({place.condition})"
    if identity.subject.key == "number" and columns_of(connection, place.relation)[place.column] in WHOLE_TYPES:
        fits = identity.key.isdecimal() and int(identity.key) <= LARGEST
        return f"{column} = $1::bigint and {condition}", identity.key if fits else None
    spellings = [text for text in _texts(connection, place) if identity_of(place.subject, text) == identity]
    return f"{column}::text = any($1::text[]) and {condition}", spellings


def identities(connection: Connection, place: Place) -> Iterator[Identity]:
    """Yield everybody whom a column has."""
    for text in _texts(connection, place):
        yield identity_of(place.subject, text)


def _texts(connection: Connection, place: Place) -> list[str]:
    column = quote_name(place.column)
    condition = f"{column} is not null and ({place.condition})"
    rows = query(connection, f"select distinct {column}::text from {place.relation} where {condition}")
    return [str(row[0]) for row in rows]


def shown_values(column: dict[str, Any]) -> list[Any]:
    """Return the values that a profile shows of a column."""
    values = [column["minimum"], column["maximum"], *column["percentiles"], *(text for text, _ in column["top"])]
    return [value for value in values if value is not None]


def refused_rows(connection: Connection, where: Locations) -> list[tuple[int, int, str, Any]]:
    """Return the quarantined rows of tables with data subjects: number, load, relation, and what was received."""
    rows = query(
        connection,
        "select quarantine_id, load_id, relation, payload::text"
        " from (select *, 'raw_' || source || '.' || table_name as relation from ops.quarantine) as q"
        " where row_number > 0 and relation = any($1::text[])",
        sorted(where.names),
    )
    return [(int(number), int(load), str(relation), json.loads(text)) for number, load, relation, text in rows]


def earlier_keys(connection: Connection, place: Place) -> list[tuple[str, str]]:
    """Return the keys that rows of a change table had before, with the rows' places in it."""
    column = quote_name(place.column)
    sql = f"select ctid::text, {column}::text from {place.relation} where {column} is not null"
    return [(str(ctid), str(text)) for ctid, text in query(connection, sql)]


def holding(connection: Connection, wanted: SuppressionList, places: Sequence[Place]) -> Found:
    """Return which of those who are wanted are in columns."""
    found: Found = defaultdict(set)
    for place in places:
        for identity in identities(connection, place):
            if wanted.has(identity):
                found[identity].add(place.name)
    return found


def present(connection: Connection, wanted: SuppressionList, where: Locations, places: Sequence[Place]) -> Found:
    """Return which of those who are wanted are in columns, earlier keys, refused rows and profiles."""
    found = holding(connection, wanted, places)

    def note(identity: Identity, relation: str) -> None:
        if wanted.has(identity):
            found[identity].add(relation)

    for place in where.keys_before:
        for _, text in earlier_keys(connection, place):
            for identity in identities_in(text, where.names[place.name]):
                note(identity, place.name)
    for _, _, relation, payload in refused_rows(connection, where):
        for identity in identities_in(payload, where.names[relation]):
            note(identity, "ops.quarantine")
    for relation, text in query(connection, "select relation, profile::text from ops.profiles"):
        names = where.names.get(relation, {})
        for column in json.loads(text)["columns"]:
            if column["name"] in names:
                for value in shown_values(column):
                    note(identity_of(names[column["name"]], value), "ops.profiles")
    return found
