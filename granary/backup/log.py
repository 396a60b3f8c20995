"""The server's log goes to the destination: whole segments, and of the last one what has been written so far.

The log is read where it lies, up to where the server says that it is on disk; a replication slot keeps what has not
been stored. At rest this is one short question per round. See docs/engine/decisions/0044.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from granary.backup import catalog
from granary.backup.catalog import Owner, Position
from granary.backup.sealing import Counted, sealing
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.layout import plan
from granary.warehouse.server import BACKED_UP

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from granary.readers.files.destination import Destination
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

SLOT = "granary_backup"
SEGMENT_BYTES = 16 << 20
"""Of initdb, which the embedded server was made with."""
SEGMENT = re.compile(r"([0-9A-F]{24})-([0-9a-f]{16})\.zst(?:\.age)?")
PARTIAL = re.compile(r"([0-9A-F]{24})\.partial\.zst(?:\.age)?")
HISTORY = re.compile(r"([0-9A-F]{8})\.history")
STATE = """
    select
        cast(pg_walfile_name(pg_current_wal_lsn()) as text), pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0'),
        clock_timestamp(), cast(system_identifier as text), current_setting('wal_level')
    from pg_control_system()
"""
SLOTS = """
    select pg_wal_lsn_diff(restart_lsn, '0/0'), wal_status from pg_replication_slots where slot_name = $1
"""


@dataclass
class Shipped:
    """What a round has stored: whole segments, whether a part of one, and how far the log now goes."""

    segments: int
    partial: bool
    position: Position
    gap: str = ""
    """Why the log of before does not go on without a hole: a new base backup is needed."""


def segment_name(timeline: int, number: int) -> str:
    """Return what the server calls a segment of its log."""
    per_file = (1 << 32) // SEGMENT_BYTES
    return f"{timeline:08X}{number // per_file:08X}{number % per_file:08X}"


def number_of(segment: str) -> int:
    """Return which segment of the log it is, on whichever timeline."""
    return int(segment[8:16], 16) * ((1 << 32) // SEGMENT_BYTES) + int(segment[16:], 16)


def mark_of(settings: Settings) -> str:
    """Return the mark of this home, by which a destination knows who may write to it."""
    path = settings.home / BACKED_UP
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(secrets.token_hex(16))
        path.chmod(0o600)
    return path.read_text().strip()


def claim(settings: Settings, place: Destination, system: str, *, take_over: bool = False) -> None:
    """Have a destination be that of this server and this home.

    Raises:
        GranaryError: it has the backups of another warehouse, or of this one as another home has it: two that write
            to one place would spoil both.
    """
    mine, there = Owner(system, mark_of(settings)), catalog.owner(place)
    if there == mine:
        return
    if there is not None and there.system != system:
        todo = "give another one with --to"
        raise GranaryError("the destination has the backups of another warehouse", place.place, todo)
    if there is not None and not take_over:
        todo = "if that one is gone for good: `granary backup --take-over`; else give another one with --to"
        raise GranaryError("the destination belongs to another home of this warehouse", place.place, todo)
    catalog.write(place, catalog.OWNER_FILE, vars(mine))


@dataclass
class LogShipper:
    """Stores the log of an embedded server, round by round."""

    settings: Settings
    place: Destination
    recipients: Sequence[str] = ()
    take_over: bool = False
    stored: Position | None = None
    _next: int | None = None
    _partial: tuple[str, int, str] = field(default=("", 0, ""))

    def round(self) -> Shipped:
        """Store what has been written since the last round.

        Raises:
            GranaryError: the server or the destination does not answer; nothing is lost, the next round goes on.
        """
        with connect(self.settings, autocommit=True) as connection:
            name, flushed, at, system, level = query(connection, STATE)[0]
            timeline, lsn = int(name[:8], 16), int(flushed)
            gap = ""
            if self._next is None or self.stored is None or self.stored.timeline != timeline:
                claim(self.settings, self.place, system, take_over=self.take_over)
                if level == "minimal":
                    what = "the server does not write its log so that backups can be made of it"
                    raise GranaryError(what, self.settings.host, "make a backup: `granary backup`")
                try:
                    gap = self._begin(connection, timeline)
                except OSError as error:
                    raise self._unreadable(error) from None
            done = self._ship(timeline, lsn, at.isoformat(timespec="milliseconds"))
            reached = lsn // SEGMENT_BYTES * SEGMENT_BYTES
            ((held, _),) = query(connection, SLOTS, SLOT)
            if held is not None and int(held) < reached:
                execute(connection, "select pg_replication_slot_advance($1, '0/0'::pg_lsn + $2)", SLOT, reached)
        done.gap = gap
        return done

    def _begin(self, connection: Connection, timeline: int) -> str:
        """Find out with which segment to go on; return what is missing between it and what is stored."""
        found = query(connection, SLOTS, SLOT)
        if found and (found[0][0] is None or found[0][1] == "lost"):
            execute(connection, "select pg_drop_replication_slot($1)", SLOT)
            found = []
        if not found:
            execute(connection, "select pg_create_physical_replication_slot($1, true)", SLOT)
            found = query(connection, SLOTS, SLOT)
        first = int(found[0][0]) // SEGMENT_BYTES
        log = self._log
        while first and (log / segment_name(timeline, first - 1)).exists():
            first -= 1
        before = catalog.position(self.place)
        self._next = first
        for path in sorted(log.glob("*.history")):
            if HISTORY.fullmatch(path.name):
                catalog.write(self.place, f"{catalog.WAL}/{path.name}", path.read_bytes())
        if before is None or before.timeline != timeline:
            catalog.write(self.place, catalog.begun_file(timeline), {"at": catalog.now()})
        if before is None:
            return ""
        reached = before.lsn // SEGMENT_BYTES
        if before.timeline == timeline and reached >= first:
            self._next = reached
            return ""
        history = log / f"{timeline:08X}.history"
        if before.timeline != timeline and history.exists():
            left = branches(history.read_text())[-1][1]
            return "" if first <= left // SEGMENT_BYTES else "the log since the last restore is not complete"
        return f"the log between {before.at} and now is lost"

    def _ship(self, timeline: int, lsn: int, at: str) -> Shipped:
        assert self._next is not None
        last, rest = divmod(lsn, SEGMENT_BYTES)
        segments = 0
        while self._next < last:
            name = segment_name(timeline, self._next)
            content = self._read(name, SEGMENT_BYTES)
            self._store(f"{name}-{hashlib.sha256(content).hexdigest()[:16]}", content)
            self.place.remove(f"{catalog.WAL}/{name}.partial{self._ending}")
            self._next += 1
            segments += 1
        partial = False
        name = segment_name(timeline, last)
        if self._partial[:2] != (name, rest):
            content = self._read(name, rest) if rest else b""
            if rest:
                self._store(f"{name}.partial", content)
            self._partial, partial = (name, rest, hashlib.sha256(content).hexdigest()), True
        self.stored = Position(timeline, lsn, at, self._partial[2])
        catalog.write(self.place, catalog.POSITION_FILE, vars(self.stored))
        return Shipped(segments, partial, self.stored)

    @property
    def _ending(self) -> str:
        return ".zst.age" if self.recipients else ".zst"

    @cached_property
    def _log(self) -> Path:
        return plan(self.settings.home).data / "pg_wal"

    def _read(self, name: str, size: int) -> bytes:
        path = self._log / name
        try:
            with path.open("rb") as file:
                content = file.read(size)
        except OSError as error:
            raise self._unreadable(error) from None
        return content

    def _unreadable(self, error: OSError) -> GranaryError:
        self._next = None  # look anew what there is
        what = f"the server's log cannot be read: {error.strerror}"
        return GranaryError(what, str(error.filename), "it is looked for anew, and what is missing then is said")

    def _store(self, name: str, content: bytes) -> None:
        with (
            self.place.writing(f"{catalog.WAL}/{name}{self._ending}") as file,
            sealing(Counted(file), self.recipients) as sealed,
        ):
            sealed.write(content)


def branches(history: str) -> list[tuple[int, int]]:
    """Return the timelines before one and where each was left, by its history: `TIMELINE<tab>PLACE<tab>REASON`."""
    lines = [line.split("\t") for line in history.splitlines()]
    return [(int(parts[0]), place_of(parts[1])) for parts in lines if len(parts) > 1]


def place_of(text: str) -> int:
    """Return a place in the log, as the server writes it, in bytes from the log's beginning."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)
