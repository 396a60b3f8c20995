"""The catalogues as Postgres has them: what each copy holds by which snapshot, its files, and one in another's place.

A snapshot that the twin made for a publish says so in the extra information of its commit, which is one transaction
with the snapshot itself. So nothing else has to be kept, and nothing can disagree.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from granary.twin.copies import COPIES, Copy
from granary.twin.ledger import Mark
from granary.warehouse.connection import execute, query, quote_name, quote_relation
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.twin.config import Config
    from granary.warehouse.connection import Connection

AUTHOR = "granary"
FILES = """
    select path, file_size_bytes from {schema}.ducklake_data_file
    union all select path, file_size_bytes from {schema}.ducklake_delete_file
"""
SMALL, MANY = 8_000_000, 40
"""Bytes of a file that is small, and how many of them a table may have until they are put together."""
CROWDED = """
    select table_id from {schema}.ducklake_data_file
    where end_snapshot is null and file_size_bytes < $1 group by table_id having count(*) > $2
"""
LEAVING = "select path from {schema}.ducklake_files_scheduled_for_deletion"


@dataclass(frozen=True)
class Label:
    """What a snapshot holds: the marts as after an event of the ledger, and `shows` the publish that they are as.

    `refused` are marts that cannot be carried, with the reason; `erasures` is what had been erased by then.
    """

    snapshot: int
    event: int
    shows: int
    erasures: str
    marts: Mapping[str, Mark]
    refused: Mapping[str, str]

    @property
    def said(self) -> str:
        """The label as it is kept with the commit."""
        marts = {name: asdict(mark) for name, mark in self.marts.items()}
        return json.dumps(
            {
                "publish": self.event,
                "shows": self.shows,
                "erasures": self.erasures,
                "marts": marts,
                "refused": dict(self.refused),
            }
        )


def exists(connection: Connection, catalog: str) -> bool:
    """Return whether there is a catalogue of this name."""
    found = query(connection, "select to_regclass($1) is not null", f"{quote_name(catalog)}.ducklake_snapshot_changes")
    return found == [(True,)]


def labels(connection: Connection, catalog: str) -> tuple[Label, ...]:
    """Return the snapshots of a catalogue that are of a publish, in order; none if there is no catalogue."""
    if not exists(connection, catalog):
        return ()
    found = query(
        connection,
        f"select snapshot_id, commit_extra_info from {quote_relation(catalog, 'ducklake_snapshot_changes')}"
        " where author = $1 and commit_extra_info is not null order by snapshot_id",
        AUTHOR,
    )
    return tuple(_label(snapshot, json.loads(said)) for snapshot, said in found)


def _label(snapshot: int, said: dict[str, object]) -> Label:
    marts = {name: Mark(**one) for name, one in said["marts"].items()}  # type: ignore[attr-defined]
    return Label(
        snapshot,
        int(str(said["publish"])),
        int(str(said["shows"])),
        str(said["erasures"]),
        marts,
        dict(said["refused"]),  # type: ignore[call-overload]
    )


def snapshots(connection: Connection, catalog: str) -> tuple[int, ...]:
    """Return the numbers of all snapshots of a catalogue, those that no publish made included."""
    found = query(connection, f"select snapshot_id from {quote_relation(catalog, 'ducklake_snapshot')} order by 1")
    return tuple(int(number) for (number,) in found)


def is_crowded(connection: Connection, catalog: str) -> bool:
    """Return whether a table of a catalogue has come to many small files."""
    return bool(query(connection, CROWDED.format(schema=quote_name(catalog)), SMALL, MANY))


def folder(connection: Connection, catalog: str) -> Path | None:
    """Return where a catalogue's files are, None if there is no catalogue."""
    if not exists(connection, catalog):
        return None
    found = query(
        connection, f"select value from {quote_relation(catalog, 'ducklake_metadata')} where key = 'data_path'"
    )
    return Path(str(found[0][0])) if found else None


def is_whole(connection: Connection, copy: Copy, config: Config) -> bool:
    """Return whether each file of a catalogue is there, in a folder of ours, with its size.

    Others there, of a process that was killed, are removed.
    """
    place = folder(connection, copy.catalog)
    if place is None or place.parent != config.place or not place.is_dir():
        return False
    schema = quote_name(copy.catalog)
    known = {Path(path).name: size for path, size in query(connection, FILES.format(schema=schema))}
    leaving = {Path(path).name for (path,) in query(connection, LEAVING.format(schema=schema))}
    found = {}
    for parent, _, names in os.walk(place):
        for name in names:
            path = Path(parent, name)
            found[name] = path.stat().st_size
            if name not in known and name not in leaving:
                path.unlink()
    return all(found.get(name) == size for name, size in known.items())


def make_folder(config: Config, copy: Copy, number: int) -> Path:
    """Make the folder of a catalogue that is to be, with the mode that its readers need and no other.

    Raises:
        GranaryError: it cannot be made, or not be given to the group.
    """
    made = config.place / f"{copy.catalog}-{number}"
    try:
        config.place.mkdir(parents=True, exist_ok=True)
        if made.exists():
            shutil.rmtree(made)
        made.mkdir(mode=0o700)
        set_modes(made, config, copy)
    except OSError as error:
        raise GranaryError(
            f"the twin's folder cannot be made: {error.strerror}", str(made), "see `twin` in dbt_project.yml"
        ) from None
    return made


def set_modes(place: Path, config: Config, copy: Copy) -> None:
    """Give a folder and all in it the mode that the readers of a copy need, and the group; whatever the umask is."""
    for parent, _, names in os.walk(place):
        for path, mode in ((Path(parent), copy.mode), *((Path(parent, name), copy.mode & 0o666) for name in names)):
            if path.stat().st_mode & 0o777 != mode:
                if config.group is not None and mode & 0o040:
                    os.chown(path, -1, config.group)
                path.chmod(mode)


def admit(connection: Connection, catalog: str, copy: Copy) -> None:
    """Let the role that reads a copy read its catalogue."""
    ((reader,),) = query(connection, "select ops.role_name($1)", copy.reader)
    execute(connection, f"grant usage on schema {quote_name(catalog)} to {quote_name(reader)}")
    execute(connection, f"grant select on all tables in schema {quote_name(catalog)} to {quote_name(reader)}")


def take_place(connection: Connection) -> None:
    """Put both catalogues that were made anew in the place of those that there are, in the caller's transaction."""
    for copy in COPIES:
        if _is_there(connection, copy.catalog):
            execute(connection, f"alter schema {quote_name(copy.catalog)} rename to {quote_name(copy.old)}")
        execute(connection, f"alter schema {quote_name(copy.new)} rename to {quote_name(copy.catalog)}")


def clear(connection: Connection, config: Config, *, everything: bool = False) -> None:
    """Drop catalogues whose place was taken or that were never finished, and remove folders that no catalogue has.

    Args:
        connection: as `transformer`; it is committed.
        config: where the folders are.
        everything: drop the twin itself, too.
    """
    for copy in COPIES:
        for catalog in (copy.new, copy.old, *((copy.catalog,) if everything else ())):
            if _is_there(connection, catalog):
                execute(connection, f"drop schema {quote_name(catalog)} cascade")
    connection.commit()
    used = {folder(connection, copy.catalog) for copy in COPIES}
    connection.commit()
    if config.place.is_dir():
        for copy in COPIES:
            for path in config.place.glob(f"{copy.catalog}-[0-9]*"):
                if path not in used:
                    shutil.rmtree(path, ignore_errors=True)


def _is_there(connection: Connection, catalog: str) -> bool:
    return query(connection, "select to_regnamespace($1) is not null", quote_name(catalog)) == [(True,)]
