"""One state of a database for all who read it, in the way that each kind of database has for that."""

from __future__ import annotations

import logging
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from granary.readers.database.connecting import words
from granary.readers.database.sql import Session, source
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

    from granary.readers.database.connecting import Database
    from granary.readers.database.values import ZeroDates

LOG = logging.getLogger(__name__)
LOCK_SECONDS = 5
"""How long parallel readers wait for writers to finish, before one reader does the work alone."""


@contextmanager
def sessions(
    database: Database, location: str, number: int, where: str, zero_dates: ZeroDates
) -> Iterator[list[Session]]:
    """Open sessions that all see the state of one instant: as many as wished for, or a single one with its reason.

    Raises:
        GranaryError: the database cannot be reached, or keeps no snapshots.
    """
    engine = database.engine()
    kind = database.dialect
    with ExitStack() as stack:

        def session(scn: int | None = None) -> Session:
            connection = stack.enter_context(database.session(engine, where))
            return Session(database, connection, location, where, zero_dates, scn)

        if kind in ("mysql", "mariadb"):
            yield _mysql(database, engine, session, location, number, where)
        elif kind == "oracle":
            yield _oracle(session, number)
        else:
            if number > 1:
                LOG.warning("%s: %s shares no snapshot among connections, so one reader does it alone", where, kind)
            first = session()
            with database.errors(where):
                _begin(first.connection, kind, where)
            yield [first]


def _begin(connection: Connection, kind: str, where: str) -> None:
    """Begin the transaction of a single reader."""
    if kind == "sqlite":
        connection.exec_driver_sql("begin")
        return
    state: Any = connection.exec_driver_sql(
        "select snapshot_isolation_state, is_read_committed_snapshot_on from sys.databases where name = db_name()"
    ).one()
    connection.rollback()
    if state[0] == 1:
        connection.execution_options(isolation_level="SNAPSHOT")
    elif not state[1]:
        raise GranaryError(
            "the source database keeps no snapshots, so a table read while it is written to would be of no one state",
            where,
            "let its administrator run: alter database current set allow_snapshot_isolation on",
        )


def _mysql(database: Database, engine: Engine, session: Any, location: str, number: int, where: str) -> list[Session]:
    """Open InnoDB snapshots; several are of one state only if nobody commits while they are opened.

    For that moment the table is locked against writing, which needs the privilege LOCK TABLES and waits for those who
    are writing to it (https://mariadb.com/kb/en/lock-tables/). Where that cannot be had, one reader does the work.
    """
    if number > 1:
        with database.session(engine, where) as keeper:
            if reason := _lock(keeper, location):
                LOG.warning("%s: no parallel reading: %s; one reader does it alone", where, reason)
                number = 1
            return _consistent(database, session, number, where)
    return _consistent(database, session, 1, where)


def _consistent(database: Database, session: Any, number: int, where: str) -> list[Session]:
    opened = [session() for _ in range(number)]
    with database.errors(where):
        for each in opened:
            each.connection.exec_driver_sql("start transaction with consistent snapshot, read only")
    return opened


def _lock(keeper: Connection, location: str) -> str | None:
    """Lock the table against writing, until the session ends; or return why that cannot be."""
    from sqlalchemy import exc, text  # noqa: PLC0415

    schema, _, name = location.rpartition(".")
    engine = keeper.execute(
        text(
            "select engine from information_schema.tables"
            " where table_schema = coalesce(:schema, database()) and table_name = :name"
        ),
        {"schema": schema or None, "name": name},
    ).scalar()
    if engine != "InnoDB":
        return f"its storage engine {engine or '(a view)'} keeps no snapshots"
    try:
        keeper.exec_driver_sql(f"set session lock_wait_timeout = {LOCK_SECONDS}")
        keeper.execute(text(f"lock tables {source(keeper.dialect, schema or None, name, None)} read"))
    except exc.DBAPIError as error:
        return words(error)
    return None


def _oracle(session: Any, number: int) -> list[Session]:
    """Open sessions on the state at the present change number; a single one has it from its transaction."""
    first: Session = session()
    with first.database.errors(first.where):
        if number == 1:
            first.connection.exec_driver_sql("set transaction read only")
            return [first]
        scn = int(first.connection.exec_driver_sql("select timestamp_to_scn(systimestamp) from dual").scalar_one())
    return [session(scn) for _ in range(number)]
