"""The schema of `ops`: numbered migrations, each applied once, in a transaction of its own, and remembered.

`migrations/NNNN_name.sql` change tables and are never edited once they are released. Beside them views and functions
(`functions.sql`, `ledger.sql`, `ranges.sql`, `publish.sql`, `history.sql`, `increments.sql`, `runs.sql`,
`written.sql`, `trail.sql`) are applied again when they have changed, and `rights.sql` (roles, grants) at every start.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from granary.warehouse import faults
from granary.warehouse.connection import execute, query, reason
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import DISTRIBUTION
from granary.warehouse.role_names import named, prefix_of
from granary.warehouse.waits import LockHeldError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

FOLDER = Path(__file__).with_name("migrations")
FILE = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
FUNCTIONS, RIGHTS = "functions.sql", "rights.sql"
APPLIED_AGAIN = (
    FUNCTIONS,
    "ledger.sql",
    "ranges.sql",
    "publish.sql",
    "history.sql",
    "increments.sql",
    "runs.sql",
    "written.sql",
    "trail.sql",
)
FUNCTIONS_NUMBER = 0


@dataclass(frozen=True)
class Migration:
    """One file of `migrations/`."""

    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Return what its text is known by."""
        return sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class Applied:
    """One row of `ops.migrations`."""

    number: int
    name: str
    sha256: str
    applied_at: datetime
    engine: str


@dataclass(frozen=True)
class Release:
    """What a version of the engine brings."""

    version: str
    migrations: tuple[Migration, ...]
    functions: Migration


@dataclass(frozen=True)
class Pending:
    """What a warehouse needs before an engine works on it."""

    migrations: tuple[Migration, ...]
    functions: Migration | None


@cache
def engine_version() -> str:
    """Return the version of the installed engine."""
    from importlib.metadata import version  # noqa: PLC0415 - takes 20 ms, which only an upgrade pays

    return version(DISTRIBUTION)


def release(version: str, texts: Mapping[str, str]) -> Release:
    """Return what an engine brings whose folder of migrations has these files: name -> text."""
    found = [Migration(int(name[:4]), name, text) for name, text in sorted(texts.items()) if FILE.fullmatch(name)]
    text = "\n".join(texts[name] for name in APPLIED_AGAIN if name in texts)
    return Release(version, tuple(found), Migration(FUNCTIONS_NUMBER, FUNCTIONS, text))


def installed() -> Release:
    """Return what this engine brings."""
    return release(engine_version(), {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.sql")})


def applied(connection: Connection) -> dict[int, Applied]:
    """Return by number the migrations that a warehouse has had; none before they were numbered."""
    if query(connection, "select to_regclass('ops.migrations') is null")[0][0]:
        return {}
    rows = query(connection, "select number, name, sha256, applied_at, engine from ops.migrations order by number")
    return {row[0]: Applied(*row) for row in rows}


def pending(connection: Connection, settings: Settings, engine: Release) -> Pending:
    """Return what an engine has to apply to a warehouse; changes nothing.

    Raises:
        GranaryError: the warehouse has had a migration that the engine does not have: a newer one made it; or one that
            was changed since.
    """
    where = f"{settings.host}, database {settings.database}"
    files = {migration.number: migration for migration in engine.migrations}
    there = applied(connection)
    functions = engine.functions
    for number, one in there.items():
        if number == FUNCTIONS_NUMBER:
            if one.sha256 != functions.sha256 and is_newer(one.engine, engine.version):
                raise _newer(f"its functions are those of engine {one.engine}", engine, where)
        elif number not in files or files[number].name != one.name:
            raise _newer(f"it has had the migration {one.name} by engine {one.engine}", engine, where)
        elif files[number].sha256 != one.sha256:
            raise GranaryError(
                f"the migration {one.name} was changed after it was applied"
                f" ({one.applied_at:%Y-%m-%d}, by engine {one.engine}); nothing was touched",
                f"granary/warehouse/migrations/{one.name}; {where}",
                "restore the file as it was, or install the engine anew; a change of tables is a migration of its own",
            )
    is_same = FUNCTIONS_NUMBER in there and there[FUNCTIONS_NUMBER].sha256 == functions.sha256
    todo = tuple(migration for number, migration in files.items() if number not in there)
    return Pending(todo, None if is_same and not todo else functions)


def migrate(connection: Connection, settings: Settings, prefix: str | None = None) -> tuple[str, ...]:
    """Bring `ops` and the roles up to date; return the names of the migrations that were applied.

    The caller lets one process at a time do this. Whatever ends it, a migration is there as a whole or not at all, and
    the next call goes on.

    Raises:
        GranaryError: see `pending` and `prefix_of`; or the server refuses a statement.
    """
    needed = pending(connection, settings, installed())
    prefix = prefix_of(connection, settings, prefix)
    connection.rollback()
    for migration in needed.migrations:
        with _transaction(connection, settings, migration.name):
            execute(connection, migration.text)
            # What stands on the tables is applied again: a migration may have had to drop it.
            execute(connection, "delete from ops.migrations where number = $1", FUNCTIONS_NUMBER)
            _remember(connection, migration)
            faults.fault_point("migration-applied")
        faults.fault_point("migration-committed")
    with _transaction(connection, settings, RIGHTS):
        if needed.functions:
            execute(connection, named(needed.functions.text, prefix))
            execute(connection, "delete from ops.migrations where number = $1", FUNCTIONS_NUMBER)
            _remember(connection, needed.functions)
        execute(connection, named((FOLDER / RIGHTS).read_text(encoding="utf-8"), prefix))
        execute(connection, "select ops.note_roles()")
        faults.fault_point("rights-applied")
    return tuple(migration.name for migration in needed.migrations)


def rehearse(connection: Connection, settings: Settings, prefix: str | None = None) -> tuple[str, ...]:
    """Try what `migrate` does, all in one transaction that is undone; return the names of the migrations tried.

    Raises:
        GranaryError: as `migrate`, whose error it foretells.
    """
    needed = pending(connection, settings, installed())
    prefix = prefix_of(connection, settings, prefix)
    connection.rollback()
    rights = Migration(FUNCTIONS_NUMBER, RIGHTS, (FOLDER / RIGHTS).read_text(encoding="utf-8"))
    for one in (*needed.migrations, *filter(None, (needed.functions,)), rights):
        with _transaction(connection, settings, one.name, lasts=False):
            execute(connection, named(one.text, prefix))
    connection.rollback()
    return tuple(migration.name for migration in needed.migrations)


@contextmanager
def _transaction(connection: Connection, settings: Settings, name: str, *, lasts: bool = True) -> Iterator[None]:
    """Have everything in it or nothing; nobody else's functions are found in it, since it runs as the owner.

    Without `lasts` it is left open.

    Raises:
        GranaryError: the server refuses a statement.
    """
    try:
        execute(connection, "set local search_path = pg_catalog, pg_temp")
        execute(connection, "set local client_min_messages = warning")
        execute(connection, f"set local granary.embedded = {'off' if settings.external else 'on'}")
        execute(connection, "set local granary.migrating = 'on'")
        yield
        if lasts:
            connection.commit()
    except psycopg.Error as error:
        connection.rollback()
        todo = "the login must own the database and be allowed to create roles"
        if isinstance(error, LockHeldError):
            todo = error.todo
        elif not isinstance(error, psycopg.errors.InsufficientPrivilege):
            todo = "fix that and run this again"
        where = f"{settings.host}, database {settings.database}"
        what = f"the warehouse cannot be prepared: {name}: {reason(error)}; nothing of it was applied"
        raise GranaryError(what, where, todo) from None


def _remember(connection: Connection, migration: Migration) -> None:
    values = (migration.number, migration.name, migration.sha256, engine_version())
    execute(connection, "insert into ops.migrations (number, name, sha256, engine) values ($1, $2, $3, $4)", *values)


def is_newer(engine: str, other: str) -> bool:
    """Return whether a version of the engine is a later release than another one."""
    one, two = ([int(part) for part in re.findall(r"\d+", text)] for text in (engine, other))
    return one > two


def _newer(why: str, engine: Release, where: str) -> GranaryError:
    return GranaryError(
        f"the warehouse is of an unknown or newer version: {why}, which is not in engine"
        f" {engine.version}; nothing was touched",
        where,
        "install the engine that made it, or a newer one",
    )
