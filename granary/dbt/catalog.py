"""What the warehouse says about its relations: their columns and their number of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from granary.warehouse.connection import Connection, columns_of, query, quote_relation

if TYPE_CHECKING:
    from granary.dbt.lineage import Columns

ESTIMATE = "select coalesce(max(reltuples), 0)::bigint from pg_class where oid = to_regclass($1)"
COUNTED_ROWS = 2_000_000
"""Tables with more rows than these are not counted."""


class Catalog:
    """Answers about relations named `schema.name`, over one connection that is left without a transaction open."""

    def __init__(self, connection: Connection) -> None:
        """Take an autocommit connection; whoever opened it closes it."""
        self._connection = connection
        self._columns: dict[str, Columns] = {}

    def columns(self, relation: str, *, again: bool = False) -> Columns:
        """Return the columns with their types, asked once unless `again`; empty if there is no such relation."""
        if again or relation not in self._columns:
            self._columns[relation] = columns_of(self._connection, _quoted(relation))
        return self._columns[relation]

    def rows(self, relation: str) -> int:
        """Return the rows: counted (0.1 s a million), of a table with many as its statistics have them.

        A full build ends with these, and autovacuum renews them. To count every row of history for one more day costs
        more than the day.
        """
        estimate = int(query(self._connection, ESTIMATE, _quoted(relation))[0][0])
        if estimate > COUNTED_ROWS:
            return estimate
        return int(str(query(self._connection, f"select count(*) from {_quoted(relation)}")[0][0]))


def _quoted(relation: str) -> str:
    schema, _, name = relation.partition(".")
    return quote_relation(schema, name)
