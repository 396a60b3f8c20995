"""Reads the data sets: each by its role, all in one read-only snapshot, so that every page shows one state."""

from __future__ import annotations

import re
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg

from granary.warehouse.connection import connect, execute, query, reason
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from granary.pages.dashboard.parts import Dataset
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

QUERIES = PROJECT / "dashboards" / "queries"


@dataclass(frozen=True)
class Rows:
    """The rows of a data set, and the query that they came from."""

    columns: tuple[str, ...]
    rows: list[list[Any]]
    sql: str


def marts_of(sql: str) -> list[str]:
    """Return the marts that a query names, in the alphabet."""
    return sorted(set(re.findall(r"\b(?:from|join) marts\.(\w+)", sql)))


def read(settings: Settings, datasets: Iterable[Dataset], report: Callable[[str], None]) -> dict[str, Rows]:
    """Return the rows of each data set by its name.

    Raises:
        GranaryError: there is no warehouse, its marts are not built, or this login may not read them.
    """
    found: dict[str, Rows] = {}
    sessions: dict[str, Connection] = {}
    snapshot = ""
    with ExitStack() as stack:
        for dataset in datasets:
            report(dataset.name)
            if dataset.role not in sessions:
                session = stack.enter_context(connect(settings, role=dataset.role, autocommit=True))
                execute(session, "begin isolation level repeatable read, read only")
                if sessions:
                    execute(session, f"set transaction snapshot '{snapshot}'")
                else:
                    ((snapshot,),) = query(session, "select pg_export_snapshot()")
                execute(session, "set local jit = off")  # compiling takes longer than these queries
                sessions[dataset.role] = session
            found[dataset.name] = _read(sessions[dataset.role], dataset)
    return found


def sql_of(dataset: Dataset) -> str:
    """Return the query of a dataset: the project's own, or else the one that it comes with."""
    own = QUERIES / f"{dataset.name}.sql"
    return own.read_text(encoding="utf-8") if own.is_file() or not dataset.sql else dataset.sql


def _read(connection: Connection, dataset: Dataset) -> Rows:
    sql = sql_of(dataset)
    try:
        if dataset.needs and not query(connection, "select to_regclass($1) is not null", dataset.needs)[0][0]:
            return Rows((), [], sql)
        with connection.cursor() as cursor:
            cursor.execute(sql.encode())
            columns = tuple(column.name for column in cursor.description or ())
            return Rows(columns, [[_plain(value) for value in row] for row in cursor.fetchall()], sql)
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidSchemaName) as error:
        raise GranaryError(
            f"the dashboard lacks a table: {reason(error)}",
            f"dashboards/queries/{dataset.name}.sql",
            "build the marts first: `granary run`",
        ) from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise GranaryError(
            f"the role {dataset.role} may not read what the dashboard shows: {reason(error)}",
            f"dashboards/queries/{dataset.name}.sql",
            "build the marts as transformer, who grants them: `granary run`",
        ) from None


def _plain(value: Any) -> Any:
    """Return a value that JSON has; what is not finite is nothing to draw."""
    if isinstance(value, Decimal):
        return float(value) if value.is_finite() else None
    return value
