"""The ledger of archives, `ops.archives`: which file has the rows of which loads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from granary.readers.tables.place import place_of
from granary.sources.config import setting
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from granary.readers.files.destination import Destination
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

PLACE = "GRANARY_ARCHIVE"
"""The setting that names the folder or bucket for raw rows."""
NUMBERED = re.compile(r"(?:\.\d+)?\.parquet$")
COLUMNS = (
    "archive_id, source, table_name, place, path, state, row_count, byte_count, raw_byte_count, sha256, digest,"
    " data_from::text, data_until::text"
)


@dataclass(frozen=True)
class Archive:
    """One file: whose rows it has, and by what it is known to be right. `raw_bytes` is what they took in Postgres."""

    archive_id: int
    source: str
    table: str
    place: str
    path: str
    state: str
    rows: int
    bytes: int
    raw_bytes: int
    sha256: str | None
    digest: str | None
    data_from: str | None
    data_until: str | None

    def files(self, settings: Settings) -> Destination:
        """Return the place that it lies in."""
        return place_of(settings, self.place).destination()


def place(settings: Settings) -> str:
    """Return where raw rows go.

    Raises:
        GranaryError: it is not set, or is an Iceberg catalogue.
    """
    text = setting(settings, PLACE)
    if place_of(settings, text).kind == "catalogue":
        raise UsageError("raw rows cannot be archived in a catalogue", PLACE, "name a folder or s3://BUCKET/FOLDER")
    return text


def archives(
    connection: Connection,
    source: str | None = None,
    table: str | None = None,
    *,
    states: Sequence[str] = ("holds",),
    since: str | None = None,
    until: str | None = None,
    number: int | None = None,
) -> list[Archive]:
    """Return the files of a source or table that have data of these days (YYYY-MM-DD, both included), or one."""
    rows = query(
        connection,
        f"select {COLUMNS} from ops.archives where state = any($1::text[]) and source = coalesce($2, source)"
        " and table_name = coalesce($3, table_name) and coalesce(data_until >= $4::date, true)"
        " and coalesce(data_from <= $5::date, true) and archive_id = coalesce($6::bigint, archive_id)"
        " order by source, table_name, data_from, archive_id",
        list(states),
        source,
        table,
        since,
        until,
        number,
    )
    return [Archive(*row) for row in rows]


def held(settings: Settings) -> list[Archive]:
    """Return all files that have rows of loads that count."""
    with connect(settings) as connection:
        return archives(connection)


def begin(settings: Settings, source: str, table: str, where: str, path: str) -> int:
    """Note a file before it is written, whatever becomes of it; return its number."""
    with connect(settings, role="loader") as connection:
        ((number,),) = query(
            connection,
            "insert into ops.archives (source, table_name, place, path) values ($1, $2, $3, $4) returning archive_id",
            source,
            table,
            where,
            path,
        )
        connection.commit()
    return int(number)


def begin_without(settings: Settings, one: Archive) -> tuple[int, str]:
    """Note a file that is to have another one's rows without somebody; return its number and path.

    It is called as the first one that it comes from, with its number: so a warehouse that was restored, and knows that
    one only, finds it (`successor`).
    """
    with connect(settings, role="loader") as connection:
        ((number,),) = query(
            connection,
            "insert into ops.archives (source, table_name, place, path, state, data_from, data_until, replaces)"
            " values ($1, $2, $3, '', 'rewriting', $4::date, $5::date, $6) returning archive_id",
            one.source,
            one.table,
            one.place,
            one.data_from,
            one.data_until,
            one.archive_id,
        )
        path = f"{_stem(one.path)}.{number}.parquet"
        execute(connection, "update ops.archives set path = $2 where archive_id = $1", number, path)
        connection.commit()
    return int(number), path


def written_without(
    settings: Settings, number: int, rows: int, raw_bytes: int, written: Mapping[str, Any], digest: str
) -> None:
    """Note what such a file has, once it was compared."""
    with connect(settings, role="loader") as connection:
        execute(
            connection,
            "update ops.archives set row_count = $2, byte_count = $3, raw_byte_count = $4, sha256 = $5, digest = $6"
            " where archive_id = $1",
            number,
            rows,
            written["bytes"],
            raw_bytes,
            written["sha256"],
            digest,
        )
        connection.commit()


def replace(connection: Connection, old: Archive, number: int) -> None:
    """Have the ledger name the file with this number for another one, which is to be removed.

    One in which no row is left stays for backups of before, as every file that no load needs.

    Raises:
        GranaryError: the new one is not known any more.
    """
    found = query(
        connection,
        "update ops.archives as new set state = case when new.row_count = 0 then 'released' else old.state end,"
        " released_at = coalesce(old.released_at, case when new.row_count = 0 then clock_timestamp() end)"
        " from ops.archives as old where new.archive_id = $2 and new.state = 'rewriting' and new.sha256 is not null"
        " and old.archive_id = $1 returning new.row_count",
        old.archive_id,
        number,
    )
    if not found:
        raise GranaryError("the record of the file is gone", old.path, "run this again")
    needed = number if found[0][0] else None
    execute(connection, "update ops.load_audit set archive_id = $2 where archive_id = $1", old.archive_id, needed)
    execute(connection, "update ops.archives set state = 'erased' where archive_id = $1", old.archive_id)


def rename(connection: Connection, one: Archive, path: str, sha256: str, rows: str, digest: str) -> None:
    """Have the record of a file name the one that took its place."""
    execute(
        connection,
        "update ops.archives set path = $2, sha256 = $3, row_count = $4::bigint, digest = $5 where archive_id = $1",
        one.archive_id,
        path,
        sha256,
        rows,
        digest,
    )


def successor(one: Archive, names: Iterable[str]) -> str | None:
    """Return which of these files has taken the place of one without somebody, last."""
    form = re.compile(re.escape(_stem(one.path)) + r"\.(\d+)\.parquet")
    found = {int(match[1]): name for name in names if (match := form.fullmatch(name))}
    return found[max(found)] if found else None


def _stem(path: str) -> str:
    return NUMBERED.sub("", path)


def loads_in(connection: Connection, archive_id: int) -> dict[int, int]:
    """Return the loads that count and have their rows in a file, each with how many."""
    rows = query(
        connection,
        "select load_id, rows_loaded from ops.load_audit where archive_id = $1 and superseded_by is null",
        archive_id,
    )
    return {int(load_id): int(number) for load_id, number in rows}


def release(connection: Connection, archive_id: int) -> None:
    """Say that no load needs a file any more."""
    execute(connection, "update ops.load_audit set archive_id = null where archive_id = $1", archive_id)
    execute(
        connection,
        "update ops.archives set state = 'released', released_at = clock_timestamp() where archive_id = $1",
        archive_id,
    )


def damaged(one: Archive, what: str) -> GranaryError:
    """Return the error of a file that does not have what it is known to have."""
    todo = "nothing has changed; bring the file back from a copy of the place"
    return GranaryError(f"the archived file {what}", f"{one.place}/{one.path}", todo)
