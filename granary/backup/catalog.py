"""What a destination holds, as its own files say: whose backups these are, which there are, and how far the log goes.

```
granary.json                    whose backups these are: the server's number, and the home that writes here
backups/NAME/backup.json        the description of a backup, written last: without it there is none
backups/NAME/base.tar.zst       the server's files; .age at the end if it is encrypted, here and below
backups/NAME/project.tar.zst    the project's files; home.tar.zst.age: secrets of the home, only if encrypted
wal/SEGMENT-DIGEST.zst          16 MB of the server's log each; SEGMENT.partial.zst: what there is of the last one
wal/position.json               how far the log goes, and when that was
erasures.jsonl                  who was forgotten up to now, by keyed hashes
```
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.readers.files.destination import Destination

FORMAT = 1
OWNER_FILE, POSITION_FILE, ERASURES_FILE = "granary.json", "wal/position.json", "erasures.jsonl"
BACKUPS, DESCRIPTION, WAL = "backups", "backup.json", "wal"
Kind = Literal["full", "incremental", "logical"]


@dataclass(frozen=True)
class Stored:
    """A file of a backup as it lies there."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Backup:
    """One backup. Places in the log are bytes from its beginning; times are ISO 8601 in UTC.

    `data_bytes` is what its files take when they are unpacked. Of a logical one, `databases` are those it has,
    and names of roles in it begin with `role_prefix`.
    """

    name: str
    kind: Kind
    started_at: str
    finished_at: str
    postgres: int
    engine: str
    system: str
    encrypted: bool
    files: dict[str, Stored]
    data_bytes: int
    parent: str | None = None
    timeline: int = 0
    start: int = 0
    end: int = 0
    databases: tuple[str, ...] = field(default=())
    role_prefix: str = ""

    @property
    def finished(self) -> datetime:
        """When it was complete: the first moment to which it can be restored."""
        return datetime.fromisoformat(self.finished_at)

    @property
    def stored_bytes(self) -> int:
        """What it takes at the destination."""
        return sum(one.bytes for one in self.files.values())

    def file(self, name: str) -> str:
        """Return the name at the destination of one of its files."""
        return f"{BACKUPS}/{self.name}/{name}"


@dataclass(frozen=True)
class Position:
    """How far the log that is stored goes: every change that was committed at this time is in it.

    `digest` is the SHA-256 of what there is of the last segment, up to `lsn`.
    """

    timeline: int
    lsn: int
    at: str
    digest: str = ""

    @property
    def moment(self) -> datetime:
        """The time."""
        return datetime.fromisoformat(self.at)


@dataclass(frozen=True)
class Owner:
    """Whose backups these are: the server's own number, and the mark of the home that may write here."""

    system: str
    home: str
    format: int = FORMAT


def begun_file(timeline: int) -> str:
    """Return the name of the file that says since when a timeline of the log is stored."""
    return f"{WAL}/{timeline:08X}.begun.json"


def timelines(place: Destination) -> dict[int, datetime]:
    """Return since when each timeline of the log was stored: a restore begins a new one."""
    names = [name for name in place.names(WAL) if name.endswith(".begun.json")]
    return {int(name.split("/")[1][:8], 16): datetime.fromisoformat(_json(place, name)["at"]) for name in names}


def now() -> str:
    """Return the time."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def read(place: Destination, name: str) -> bytes | None:
    """Return a small file, None if it is not there."""
    try:
        with place.reading(name) as file:
            return bytes(file.read())
    except FileNotFoundError:
        return None


def write(place: Destination, name: str, value: object) -> None:
    """Write a small file: bytes as they are, anything else as JSON."""
    with place.writing(name) as file:
        file.write(value if isinstance(value, bytes) else json.dumps(value, indent=1).encode() + b"\n")


def backups(place: Destination) -> list[Backup]:
    """Return the complete backups, the oldest first.

    Raises:
        GranaryError: a description cannot be read, or was written by a newer version.
    """
    found = [name for name in place.names(BACKUPS) if name.endswith(f"/{DESCRIPTION}")]
    return sorted((_backup(place, name) for name in found), key=lambda one: one.name)


def _backup(place: Destination, name: str) -> Backup:
    given = _json(place, name)
    try:
        if given.pop("format") != FORMAT:
            todo = "restore with the version of the engine that made it"
            raise GranaryError("the backup is of another format", f"{place.place}/{name}", todo)
        files = {file: Stored(**one) for file, one in given.pop("files").items()}
        return Backup(files=files, databases=tuple(given.pop("databases", ())), **given)
    except (KeyError, TypeError, AttributeError):
        raise _unreadable(place, name) from None


def describe(place: Destination, backup: Backup) -> None:
    """Write a backup's description: from now on it is complete."""
    write(place, backup.file(DESCRIPTION), {"format": FORMAT, **asdict(backup)})


def half_written(place: Destination) -> list[str]:
    """Return the names of backups that were begun and have no description."""
    files = place.names(BACKUPS)
    complete = {name.split("/")[1] for name in files if name.endswith(f"/{DESCRIPTION}")}
    return sorted({name.split("/")[1] for name in files} - complete)


def owner(place: Destination) -> Owner | None:
    """Return whose backups a destination has; None if it has none."""
    if read(place, OWNER_FILE) is None:
        return None
    given = _json(place, OWNER_FILE)
    try:
        return Owner(**given)
    except TypeError:
        raise _unreadable(place, OWNER_FILE) from None


def position(place: Destination) -> Position | None:
    """Return how far the log goes; None if there is none."""
    if read(place, POSITION_FILE) is None:
        return None
    try:
        return Position(**_json(place, POSITION_FILE))
    except TypeError:
        raise _unreadable(place, POSITION_FILE) from None


def chain(every: Sequence[Backup], last: Backup, where: str) -> list[Backup]:
    """Return the backups that one stands on, the full one first, and itself.

    Raises:
        GranaryError: one of them is missing.
    """
    named, found = {one.name: one for one in every}, [last]
    while (parent := found[-1].parent) is not None:
        if parent not in named:
            raise GranaryError(
                f"backup {last.name} stands on {parent}, which is not there", where, "restore from another backup"
            )
        found.append(named[parent])
    return found[::-1]


def _json(place: Destination, name: str) -> dict[str, Any]:
    try:
        found = json.loads(read(place, name) or b"")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _unreadable(place, name)
    return found


def _unreadable(place: Destination, name: str) -> GranaryError:
    return GranaryError("the description cannot be read", f"{place.place}/{name}", "restore from another backup")
