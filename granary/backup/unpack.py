"""From the destination to this machine's disk: the files of a backup, and the log that goes with them.

Nothing is taken on trust: every file has its size and digest in the backup's description, every segment of the log its
digest in its name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from granary.backup import catalog
from granary.backup.catalog import Position
from granary.backup.log import HISTORY, PARTIAL, SEGMENT, SEGMENT_BYTES, branches, number_of, segment_name
from granary.backup.sealing import BLOCK_BYTES, Counted, damaged, unsealing
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from granary.backup.catalog import Backup
    from granary.readers.files.destination import Destination
    from granary.warehouse.layout import Layout

SPARE_BYTES = 500_000_000
"""What is left free on the disk: the restored server writes, too."""


@dataclass(frozen=True)
class Log:
    """The log that a destination has for going on from a backup: files by segment, in order, and histories.

    `missing` is the first segment that should be there and is not.
    """

    segments: dict[str, str]
    histories: tuple[str, ...]
    missing: str = ""

    @property
    def bytes(self) -> int:
        """What it takes on the disk."""
        return len(self.segments) * SEGMENT_BYTES


def log_after(place: Destination, backup: Backup, position: Position) -> Log:
    """Find the log from a backup's begin to the last position, along the timelines between them.

    The backup is one that leads there.

    Raises:
        GranaryError: what the backup itself needs is not there.
    """
    names = place.names(catalog.WAL)
    whole, partial = dict[str, str](), dict[str, str]()
    for name in names:
        file = name.rpartition("/")[2]
        if found := SEGMENT.fullmatch(file):
            whole[found[1]] = name
        elif found := PARTIAL.fullmatch(file):
            partial[found[1]] = name
    histories = tuple(sorted(name for name in names if HISTORY.fullmatch(name.rpartition("/")[2])))
    chosen, missing = dict[str, str](), ""
    for name in _wanted(place, backup, position):
        if file := whole.get(name) or partial.get(name, ""):
            chosen[name] = file
        else:
            missing = name
            break
    end = segment_name(backup.timeline, (backup.end - 1) // SEGMENT_BYTES)
    if missing and missing <= end and missing[:8] == end[:8]:
        todo = "restore from another backup: `granary backup --list`"
        raise GranaryError(f"the log that backup {backup.name} needs is not there: {missing}", place.place, todo)
    return Log(chosen, histories, missing)


def position_at(place: Destination, at: datetime, last: Position) -> Position:
    """Return where the log ends that has a moment: on the timeline on which the warehouse lived then.

    A server that stops before it comes to the timeline that it was told to follow would write a wrong history of it.
    """
    begun = [(since, timeline) for timeline, since in catalog.timelines(place).items() if since <= at]
    timeline = max(begun)[1] if begun else last.timeline
    if timeline == last.timeline:
        return last
    prefix = f"{timeline:08X}"
    files = [name.rpartition("/")[2] for name in place.names(catalog.WAL)]
    found = [SEGMENT.fullmatch(file) or PARTIAL.fullmatch(file) for file in files if file.startswith(prefix)]
    numbers = [number_of(one[1]) for one in found if one]
    return Position(timeline, (max(numbers) + 1) * SEGMENT_BYTES, last.at) if numbers else last


def _wanted(place: Destination, backup: Backup, position: Position) -> Iterator[str]:
    """Yield the names of the segments that lead from a backup to a position, timeline by timeline."""
    steps = [*_branches(place, backup, position), (position.timeline, position.lsn)]
    first = backup.start // SEGMENT_BYTES
    for timeline, until in steps:
        last = max(until - 1, 0) // SEGMENT_BYTES
        for number in range(first, last + 1):
            yield segment_name(timeline, number)
        first = until // SEGMENT_BYTES


def leads_to(place: Destination, backup: Backup, position: Position) -> bool:
    """Return whether the log goes from a backup to a position: not if a later restore has left the backup's time."""
    steps = _branches(place, backup, position)
    if not steps:
        return backup.timeline == position.timeline
    return steps[0][0] == backup.timeline and steps[0][1] >= backup.end


def _branches(place: Destination, backup: Backup, position: Position) -> list[tuple[int, int]]:
    """Return the timelines between a backup's and the position's, and where each ends."""
    if position.timeline == backup.timeline:
        return []
    content = catalog.read(place, f"{catalog.WAL}/{position.timeline:08X}.history") or b""
    return [step for step in branches(content.decode()) if step[0] >= backup.timeline]


def check_room(place: Destination, chain: Sequence[Backup], log: Log, folder: Path) -> None:
    """Refuse to begin what does not fit.

    Raises:
        GranaryError: the disk is too small.
    """
    needed = sum(one.data_bytes for one in chain) + log.bytes + SPARE_BYTES
    if len(chain) > 1:
        needed += chain[0].data_bytes  # changed files are put together anew
    free = shutil.disk_usage(folder).free
    if free < needed:
        what = f"the disk is too small: {needed / 1e9:,.1f} GB are needed, {free / 1e9:,.1f} GB are free"
        raise GranaryError(what, str(folder), "make room, or restore into another home: --into")


def unpack(
    place: Destination, backup: Backup, keys: Sequence[Any], part: str, target: Path, owner: Layout | None
) -> None:
    """Unpack one archive of a backup (`base`, `project`, `home`) into a folder, which the server's user gets.

    Raises:
        GranaryError: it is missing, damaged, or was encrypted with another key.
    """
    name = next((file for file in backup.files if file.startswith(f"{part}.tar.")), None)
    if name is None:
        raise GranaryError(f"backup {backup.name} has no {part}", place.place, "")
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    if owner:
        owner.give(target)
    with opened(place, backup, name, keys) as stream:
        try:
            _extract(stream, target, owner)
        except (tarfile.TarError, EOFError) as error:
            raise damaged(f"{place.place}/{backup.file(name)}", type(error).__name__) from None


@contextmanager
def opened(place: Destination, backup: Backup, name: str, keys: Sequence[Any]) -> Iterator[Any]:
    """Open one file of a backup, as the bytes that were sealed; leaving it compares the file with its description.

    Raises:
        GranaryError: it is missing, damaged, or was encrypted with another key.
    """
    where, stored = f"{place.place}/{backup.file(name)}", backup.files[name]
    try:
        with place.reading(backup.file(name)) as file:
            counted = Counted(file)
            with unsealing(counted, keys, encrypted=backup.encrypted, where=where) as stream:
                yield stream
            counted.drain()
    except FileNotFoundError:
        raise GranaryError("a file of the backup is missing", where, "restore from another backup") from None
    if (counted.size, counted.sha256) != (stored.bytes, stored.sha256):
        how = f"{counted.size:,} of {stored.bytes:,} bytes" if counted.size != stored.bytes else "its digest is another"
        raise damaged(where, how)


def _extract(stream: Any, target: Path, owner: Layout | None) -> None:
    """Write the files and folders of an archive into a folder; it has nothing else, and nothing leads out of it.

    Raises:
        tarfile.TarError: the archive is damaged, or has something else.
    """
    with tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK_BYTES) as archive:
        for member in archive:
            path = target / os.path.normpath(member.name)
            file = archive.extractfile(member) if member.isreg() else None
            if not path.is_relative_to(target) or ".." in path.parts or not (file or member.isdir()):
                raise tarfile.TarError(member.name)
            if file is None:
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("xb") as written:
                    shutil.copyfileobj(file, written, BLOCK_BYTES)
            if owner:
                for made in (path, *path.parents[: len(path.relative_to(target).parts) - 1]):
                    owner.give(made)
            archive.members.clear()  # type: ignore[attr-defined]  # a hundred thousand files are not kept in memory
        while stream.read(BLOCK_BYTES):
            pass


def fetch_log(place: Destination, log: Log, position: Position, keys: Sequence[Any], layout: Layout) -> None:
    """Put the log into the server's own folder of it, where recovery finds it.

    Raises:
        GranaryError: a segment is damaged, or was encrypted with another key.
    """
    folder = layout.data / "pg_wal"
    for name in log.histories:
        path = folder / name.rpartition("/")[2]
        path.write_bytes(catalog.read(place, name) or b"")
        layout.give(path)
    for segment, name in log.segments.items():
        content = _segment(place, name, keys)
        is_last = segment == segment_name(position.timeline, position.lsn // SEGMENT_BYTES)
        part = hashlib.sha256(content[: position.lsn % SEGMENT_BYTES]).hexdigest()
        if is_last and PARTIAL.fullmatch(name.rpartition("/")[2]) and part != position.digest:
            raise damaged(f"{place.place}/{name}", "its digest is another")
        path = folder / segment
        with path.open("wb") as file:
            file.write(content)
            file.truncate(SEGMENT_BYTES)
        layout.give(path)


def _segment(place: Destination, name: str, keys: Sequence[Any]) -> bytes:
    where = f"{place.place}/{name}"
    with (
        place.reading(name) as file,
        unsealing(Counted(file), keys, encrypted=name.endswith(".age"), where=where) as stream,
    ):
        content = bytes(stream.read())
    found = SEGMENT.fullmatch(name.rpartition("/")[2])
    if found and (len(content) != SEGMENT_BYTES or hashlib.sha256(content).hexdigest()[:16] != found[2]):
        raise damaged(where, "its digest is another")
    return content


def without(log: Log, after: str) -> Log:
    """Return the log up to a segment."""
    return replace(log, segments={name: file for name, file in log.segments.items() if name <= after})
