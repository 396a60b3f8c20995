"""What the warehouse's storage is: of each part, the tables and indexes of a schema or the files of a folder."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.errors import InsufficientPrivilege

from granary.warehouse.connection import connect, query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

SCHEMAS = """
    select
        -- A partition counts where its table is.
        case when n.nspname like 'raw\\_%' then 'raw' else n.nspname::text end as layer,
        sum(pg_table_size(c.oid))::bigint as tables,
        sum(pg_indexes_size(c.oid))::bigint as indexes
    from pg_class as c
    inner join pg_class as whole on whole.oid = coalesce(pg_partition_root(c.oid), c.oid)
    inner join pg_namespace as n on whole.relnamespace = n.oid
    where c.relkind in ('r', 'm', 'p') and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
    group by layer
    having sum(pg_total_relation_size(c.oid)) > 0
    order by sum(pg_total_relation_size(c.oid)) desc
"""
DATABASE = "select pg_database_size(current_database())"
BESIDE = """
    select
        datname::text,
        case
            when has_database_privilege(oid, 'connect') or pg_has_role('pg_read_all_stats', 'usage')
                then pg_database_size(oid)
        end as size
    from pg_database
    where datname <> current_database()
    order by size desc
"""
"""Of databases that this login may not enter, no size is told."""
WAL = "select coalesce(sum(size), 0)::bigint from pg_ls_waldir()"
HELD = """
    select slot_name::text, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint
    from pg_replication_slots
    where restart_lsn is not null and pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) > 0
"""


ARCHIVED = """
    select
        source || '.' || table_name, place, min(data_from)::text, max(data_until)::text, count(*),
        sum(row_count)::bigint, sum(byte_count)::bigint, sum(raw_byte_count)::bigint
    from ops.archives
    where state = 'holds'
    group by source, table_name, place
    order by 1, 2
"""


@dataclass(frozen=True)
class Part:
    """Bytes of one kind. What is `held` is counted in another part already (write-ahead log that a slot retains)."""

    what: str
    tables: int = 0
    indexes: int = 0
    files: int = 0
    held: bool = False

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.tables + self.indexes + self.files


@dataclass(frozen=True)
class Away:
    """Raw rows of a table that lie in files of a lake: where, of which data, and what they took in Postgres, about."""

    table: str
    place: str
    since: str
    until: str
    files: int
    rows: int
    bytes: int
    raw_bytes: int


@dataclass(frozen=True)
class Storage:
    """What is stored, the bytes that are free beside the home, and what could not be looked at, with the reason.

    `archived` are raw rows in a lake, which may be on this disk or elsewhere: they are in no part.
    """

    parts: tuple[Part, ...]
    free: int
    left_out: tuple[str, ...]
    archived: tuple[Away, ...] = ()

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(part.bytes for part in self.parts if not part.held)


def look(settings: Settings) -> Storage:
    """Ask the server, and add up the home's files.

    Raises:
        GranaryError: the server does not answer.
    """
    parts: list[Part] = []
    left_out: list[str] = []
    with closing(connect(settings, autocommit=True)) as connection:
        parts += [Part(f"schema {name}", tables, indexes) for name, tables, indexes in query(connection, SCHEMAS)]
        catalogue = int(query(connection, DATABASE)[0][0]) - sum(part.bytes for part in parts)
        parts.append(Part("system catalogues", max(0, catalogue)))
        mine = (settings.dagster_database,) if settings.external else None
        for name, size in query(connection, BESIDE):
            if mine is not None and name not in mine:
                continue
            what = "Dagster's storage (database " if name == settings.dagster_database else "other database ("
            if size is None:
                left_out.append(f"{what}{name}): this login may not enter it")
            else:
                parts.append(Part(f"{what}{name})", size))
        databases = sum(part.bytes for part in parts)
        known = query(connection, "select to_regclass('ops.archives') is not null") == [(True,)]
        archived = tuple(Away(*row) for row in query(connection, ARCHIVED)) if known else ()
        parts += _log(connection, left_out)
    if settings.external:
        left_out.append("the server's own files: it is external")
    else:
        data = _bytes(settings.home / "data")
        parts.append(Part("the server's other files", files=max(0, data - databases - parts[-1].bytes)))
    parts += _files(settings.home)
    order = sorted((part for part in parts if part.bytes), key=lambda part: (part.held, -part.bytes))
    return Storage(tuple(order), shutil.disk_usage(settings.home).free, tuple(left_out), archived)


def _log(connection: Connection, left_out: list[str]) -> Iterator[Part]:
    """Yield what slots retain of the write-ahead log, and last of all the log, if this login may see it."""
    for name, size in query(connection, HELD):
        yield Part(f"write-ahead log retained by slot {name}", files=int(size), held=True)
    try:
        yield Part("write-ahead log", files=int(query(connection, WAL)[0][0]))
    except InsufficientPrivilege:
        left_out.append("the write-ahead log: this login is not in pg_monitor")
        yield Part("write-ahead log")


def _files(home: Path) -> Iterator[Part]:
    """Yield what lies in the home beside the server's data: Dagster's and dbt's files, logs, and what others keep."""
    logs = 0
    for path in sorted(home.iterdir()):
        if path.name == "dagster":
            yield Part("dbt's artifacts (dagster/dbt)", files=(dbt := _bytes(path / "dbt")))
            yield Part("Dagster's files (dagster/)", files=_bytes(path) - dbt)
        elif path.name in ("logs", "postgres.log"):
            logs += _bytes(path)
        elif path.is_dir() and path.name not in ("data", "run"):
            yield Part(f"{path.name}/", files=_bytes(path))
    yield Part("logs", files=logs)


def _bytes(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; what vanishes meanwhile counts nothing."""
    if not path.is_dir():
        return path.stat().st_size if path.is_file() else 0
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
    return total
