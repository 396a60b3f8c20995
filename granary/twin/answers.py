"""Answers to queries: as texts, as Postgres writes them, and as Arrow."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from granary.twin import asking
from granary.warehouse import reading
from granary.warehouse.connection import connect, execute, quote_name
from granary.warehouse.errors import GranaryError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from granary.twin.asking import Route
    from granary.warehouse.reading import To
    from granary.warehouse.settings import Settings

ROWS = 10_000
"""Rows that are fetched at a time."""
AS_READ = {"uuid": "VARCHAR", "numeric": "DOUBLE"}
"""DuckDB's type in which a column comes to a notebook, by Postgres': as granary.warehouse.reading hands it on."""


def read(settings: Settings, what: str, to: To = "arrow", *, role: str = "analyst", worth: float = asking.WORTH) -> Any:
    """Return a relation or the answer to a query, from whoever is quicker: see `granary.warehouse.reading.read`."""
    named = reading.RELATION.fullmatch(what.strip())
    sql = f"select * from {quote_name(named[1] or 'marts')}.{quote_name(named[2])}" if named else one_query(what)
    if to != "batches" and (named is None or (named[1] or "marts") == "marts"):
        chosen = _quietly(settings, sql, role, worth)
        if chosen and chosen.engine == "twin":
            with suppress(GranaryError):  # it was made anew since, or cannot after all
                return reading.given(arrow(settings, chosen, role), to)
    return reading.read(what, to, role=role)


def _quietly(settings: Settings, sql: str, role: str, worth: float) -> Route | None:
    """Return who is to answer; None if Postgres refuses the query, which it then says itself."""
    try:
        return asking.route(settings, sql, role, worth=worth)
    except GranaryError:
        return None


def arrow(settings: Settings, chosen: Route, role: str) -> pa.Table:
    """Return the twin's answer in the types in which Postgres' comes."""
    targets = [AS_READ.get(kind) for kind in chosen.kinds]
    columns = ", ".join(f"cast(c{n} as {one}) as c{n}" if one else f"c{n}" for n, one in enumerate(targets))
    listed = ", ".join(f"c{n}" for n in range(len(targets)))
    sql = f"select {columns} from (\n{chosen.sql}\n) as answer ({listed})" if targets else chosen.sql
    with asking.answering(settings, chosen, role, sql) as found:
        table = found.fetch_arrow_table()
    return table.rename_columns(list(chosen.names)) if chosen.names else table


def texts(
    settings: Settings, sql: str, chosen: Route, role: str
) -> tuple[Sequence[str], Sequence[str], Iterator[tuple[str | None, ...]]]:
    """Return the names and the types of an answer's columns, and its rows as texts; those of the twin are DuckDB's."""
    if chosen.engine == "postgres":
        told = asking.describe(settings, sql, role)
        return told.names, told.kinds, _of_postgres(settings, sql, role)
    with asking.answering(settings, chosen, role, f"describe {chosen.sql}") as found:
        described = found.fetchall()
    names = chosen.names or tuple(str(row[0]) for row in described)
    kinds = chosen.kinds or tuple(str(row[1]).lower() for row in described)
    return names, kinds, _of_twin(settings, chosen, role, len(names))


def _of_postgres(settings: Settings, sql: str, role: str) -> Iterator[tuple[str | None, ...]]:
    with connect(settings, role=role) as connection:
        execute(connection, "set transaction read only")
        execute(connection, "set local time zone 'UTC'")
        asking.answered(connection, f"declare answer no scroll cursor for {sql}", sql)
        while (found := asking.answered(connection, f"fetch {ROWS} from answer", sql)).ntuples:
            for row in range(found.ntuples):
                values = (found.get_value(row, column) for column in range(found.nfields))
                yield tuple(None if one is None else one.decode() for one in values)


def _of_twin(settings: Settings, chosen: Route, role: str, width: int) -> Iterator[tuple[str | None, ...]]:
    listed = ", ".join(f"c{place}" for place in range(width))
    values = ", ".join(f"cast(c{place} as varchar)" for place in range(width))
    sql = f"select {values} from (\n{chosen.sql}\n) as answer ({listed})"
    kinds = chosen.kinds
    with asking.answering(settings, chosen, role, sql) as found:
        while rows := found.fetchmany(ROWS):
            for row in rows:
                yield tuple(_as_postgres(one, kind) for one, kind in zip(row, kinds or row, strict=True))


def _as_postgres(value: str | None, kind: str | None) -> str | None:
    return {"true": "t", "false": "f"}.get(value, value) if value and kind == "boolean" else value


def one_query(sql: str) -> str:
    """Return a query without the semicolon at its end.

    Raises:
        UsageError: there is none.
    """
    if not (query := sql.strip().rstrip(";").strip()):
        raise UsageError(
            "there is no query", todo='write one, such as granary sql "select count(*) from marts.fct_orders"'
        )
    return query
