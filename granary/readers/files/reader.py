"""Files in a landing zone: one file is one unit, known by its content."""

from __future__ import annotations

import shutil
import tempfile
import time
import zipfile
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

import pyarrow as pa

from granary.readers.files import avro, columnar, delimited, excel, fixed_width, formats, json_rows, xml_rows
from granary.readers.files.limits import Limits
from granary.readers.files.names import check_columns, day_of, is_temporary, left_out
from granary.readers.files.patterns import takes
from granary.readers.files.places import open_store
from granary.readers.files.store import ADVICE_HERE, Entry, safe_pattern, same
from granary.readers.files.unpack import DAMAGED, compression, content, damaged, member, members, unpacked
from granary.sources import validation
from granary.sources.attempt import attempts, clock
from granary.sources.guarantees import Guarantees
from granary.sources.units import NotLoaded, SourceBatch, Unit, UnreachableError, UnreadableError, order
from granary.warehouse.errors import GranaryError
from granary.warehouse.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from granary.readers.files.delimited import Reopen
    from granary.readers.files.formats import Format
    from granary.sources.spec import Table

SEEKING = (formats.Parquet, formats.Orc, formats.Avro, formats.Excel)
"""Formats that are read from several places of the file, not from its beginning to its end."""

HEAD_BYTES = 4
MOST_LEFT = 1_000
"""Files of no table that a load names."""


class FileReader:
    """Reads files on the local disk, S3, SFTP, HTTP(S) and whatever else fsspec reaches.

    `Table.location` is a glob below the reader's location; on HTTP, which lists nothing, it is a path.
    """

    guarantees = Guarantees(
        kind="files",
        declared="FileReader",
        command="granary load",
        exactly_once="yes: a file is one transaction; a changed file replaces its own rows, and a copy is reported",
        deletes="in part: a file that is gone is reported, and `granary withdraw` deletes its rows",
        order="yes: files by name, rows by line",
        lag="in part: files that wait or that no table takes",
        page="files",
        proofs=("files", "files, append", "files, web"),
    )

    def __init__(
        self,
        location: str,
        *,
        format: str | Format = "auto",  # noqa: A002 - the word that people look for
        options: Mapping[str, Format] | None = None,
        settle: float = 0,
        done: str = "",
        members: str = "*",
        credentials: Mapping[str, str] | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Remember how to read; nothing is opened yet.

        Args:
            location: a folder, or a URL such as `s3://bucket/prefix?endpoint_url=https://…`, `sftp://user@host/path`.
            format: the format of all tables: "auto" goes by each file's name, a name means its defaults, and a value
                such as `Csv(delimiter=";")` says more.
            options: the format of single tables, by the table's name.
            settle: seconds for which a file must not have changed before it is read.
            done: the marker of a complete file: ".done" is appended to its name, "_SUCCESS" is in its folder.
            members: which members of a zip archive are read.
            credentials: for S3 `key` and `secret`; for SFTP `username`, `password`, `client_keys` (a path) and
                `known_hosts` (a path); for HTTP `username` and `password`, or headers. They are never shown.
            limits: what one file may cost.
        """
        given = dict(locals())
        validation.arguments(FileReader.__init__, "FileReader", given, secret=("credentials", "location"))
        validation.ranges(given, "FileReader", filled=("location", "members"), natural=("settle",))
        if not isinstance(format, formats.Options) and format not in ("auto", *formats.NAMES):
            known = f"auto, {', '.join(formats.NAMES)}, or a value such as Xml(row='person')"
            raise ValueError(f"FileReader: format is one of {known}, and not {format!r}")
        for name, value in (options or {}).items():
            if not isinstance(value, formats.Options):
                words = f"of {name} is a format's options, such as Csv(delimiter=';'), and not {value!r}"
                raise ValueError(f"FileReader: options {words}")
        self.format, self.options = (
            formats.NAMES.get(format, None) if isinstance(format, str) else format,
            options or {},
        )
        self.settle, self.done, self.members = settle, done, members
        self.limits = limits or Limits()
        self.store = open_store(location, credentials or {})
        self.place = self.store.place
        self._seen: dict[str, Entry] = {}
        self._waiting: dict[str, NotLoaded] = {}
        self._unpacked: dict[str, str] = {}

    def units(self, table: Table, watermark: str | None) -> list[Unit]:
        """Return the files in the order of units; hidden, temporary, unsettled and unmarked ones are left alone.

        What lies among them and is not a file to read, or has no name to go by, is a unit with a problem.

        Raises:
            GranaryError: the place is missing, or does not answer.
        """
        del watermark
        pattern = safe_pattern(table.location, self.store.place)
        entries = [e for e in self.store.entries(pattern, table.name) if not is_temporary(e.name, pattern)]
        entries.sort(key=lambda entry: order(entry.name))
        self._waiting = self._unfinished(table, pattern, [entry for entry in entries if not entry.problem])
        return [self._unit(table, entry) for entry in entries if entry.name not in self._waiting]

    def _unfinished(self, table: Table, pattern: str, entries: Sequence[Entry]) -> dict[str, NotLoaded]:
        """Return the files that are not complete yet, as their times or markers say, with the reason."""
        waiting = {}
        latest = time.time() - self.settle
        if self.settle:
            for entry in entries:
                if entry.modified is not None and entry.modified > latest:
                    waiting[entry.name] = f"it changed less than {self.settle:g} s ago"
        if self.done:
            present = {entry.name for entry in self.store.entries(self._marker(pattern), table.name)}
            for entry in entries:
                if (marker := self._marker(entry.name)) not in present:
                    waiting[entry.name] = f"its marker {marker} is missing"
        return {name: NotLoaded(name, "waiting", reason) for name, reason in waiting.items()}

    def _marker(self, name: str) -> str:
        """Return the name of the marker of a complete file."""
        return name + self.done if self.done.startswith(".") else str(PurePosixPath(name).parent / self.done)

    def not_loaded(self, tables: Sequence[Table]) -> list[NotLoaded]:
        """Return what the last calls of `units` and `read` left out, and the files that none of these tables takes."""
        patterns = [table.location for table in tables]
        markers = [self._marker(pattern) for pattern in patterns] if self.done else []
        found = dict(self._waiting)
        for name in self.store.names():
            if name not in found and not any(takes(marker, name) for marker in markers):
                outcome = left_out(name, patterns)
                if outcome is not None and len(found) == MOST_LEFT:
                    reason = f"over {MOST_LEFT:,} files are left out; the others are not named"
                    return [
                        *sorted(found.values(), key=lambda one: one.unit),
                        NotLoaded(self.place, "passed over", reason),
                    ]
                if outcome is not None:
                    found[name] = outcome
        return sorted(found.values(), key=lambda one: one.unit)

    def examine(self, tables: Sequence[Table]) -> Iterator[Finding]:
        """Yield what is in the way of reading these tables, what no table takes, and files from the future."""
        found = list(attempts(self, tables))
        yield from found
        if any(one.severity == "problem" for one in found):
            return
        entries = [one for table in tables for one in self.store.entries(table.location, table.name)]
        newest = max((one for one in entries if one.modified), key=lambda one: one.modified or 0, default=None)
        if newest and newest.modified and newest.modified > time.time():
            yield from clock(newest.name, newest.modified)
        for left in self.not_loaded(tables):
            yield Finding(left.reason, left.unit, "", "see `granary load`, and the patterns of its tables", "hint")

    def _unit(self, table: Table, entry: Entry) -> Unit:
        self._seen[entry.name] = entry
        day, problem = None, entry.problem
        if table.is_daily and not problem:
            try:
                day = day_of(entry.name)
            except ValueError as error:
                problem = str(error)
        if problem:
            return Unit(entry.name, fingerprint=f"no file: {problem}", bytes=max(entry.size, 0), problem=problem)
        content = partial(self._content, entry)
        return Unit(entry.name, version=entry.version, content=content, bytes=max(entry.size, 0), date=day)

    def _skip(self, name: str, member: str) -> None:
        """Note a member of an archive that is none of the data."""
        place = f"{name}, {member}"
        self._waiting[place] = NotLoaded(
            place, "passed over", "its name does not tell the format that other members have"
        )

    def _content(self, entry: Entry) -> str:
        if entry.unreachable:
            raise UnreachableError(entry.unreachable, f"{self.store.place}/{entry.name}", ADVICE_HERE)
        return self.store.content(entry)

    def read(self, table: Table, unit: Unit, watermark: str | None) -> Iterator[SourceBatch]:
        """Yield the file's rows.

        Raises:
            UnreadableError: it is damaged, not of its format, a bomb, or has hostile names.
            UnreachableError: this machine or its server could not read it, or nobody knows its format.
            StillWrittenError: it changed, or went, while it was read.
        """
        del watermark
        where = f"{self.store.place}/{unit.name}"
        entry = self.store.entry(unit.name)
        same(self._seen.get(unit.name, entry), entry, self.store.place)
        path = self.store.local(entry)
        declared = self.options.get(table.name) or self.format
        known = {name for column in table.columns for name in (column.name, *column.aliases)}
        checked: pa.Schema | None = None
        refused = 0
        inside: list[str] = []
        try:
            for source_batch in read_rows(
                path, unit.name, declared, table, self.limits, where, self.members, self._skip, inside
            ):
                if source_batch.batch.schema is not checked:
                    check_columns(source_batch.batch.schema.names, known, where)
                    checked = source_batch.batch.schema
                refused += sum(len(str(bad.payload)) for _, bad in source_batch.rejected)
                self.limits.check_refused(refused, where)
                yield source_batch
        except UnreadableError as error:
            self.store.verify(entry)  # what is damaged may be just incomplete
            if error.where:
                raise
            raise UnreadableError(error.what, where, error.todo) from None
        except DAMAGED as error:
            if isinstance(error, GranaryError):
                raise
            self.store.verify(entry)
            raise damaged(error, where, formats.label(declared or formats.by_name(unit.name)[0])) from None
        self.store.verify(entry)
        if inside:
            self._unpacked[unit.name] = inside[0] if len(inside) == 1 else sha256("".join(inside).encode()).hexdigest()

    def unpacked(self, unit: str) -> str | None:
        """Return the SHA-256 of what was in a packed file that was read, of several members that of their list."""
        return self._unpacked.get(unit)


def read_rows(
    path: Path,
    name: str,
    declared: Format | None,
    table: Table,
    limits: Limits,
    where: str,
    pattern: str = "*",
    skip: Callable[[str, str], None] = lambda _name, _member: None,
    inside: list[str] | None = None,
) -> Iterator[SourceBatch]:
    """Yield the rows of a file on this machine, unpacked as its content says, in the declared format or its name's.

    `skip` is told of a member of an archive that has another format by its name, or none, where others have it;
    `inside` gets the SHA-256 of each stream that came packed.
    """
    inside = [] if inside is None else inside
    found, packed = formats.by_name(name)
    found = declared or found
    with path.open("rb") as handle:
        kind = compression(handle.read(HEAD_BYTES))
    if packed and kind != packed:
        raise UnreadableError(f"the file is not {packed}, as its name says", where, "ask the source to name it")
    if kind == "zip" and not isinstance(found, formats.Excel):
        with zipfile.ZipFile(path) as archive:
            chosen = members(archive, pattern, limits, where)
            if not chosen:
                raise UnreadableError(f"the archive has no member {pattern!r}", where, "ask the source for it")
            wanted = object if declared is None else type(declared)
            named = {info.filename: formats.by_name(info.filename)[0] for info in chosen}
            taken = [info for info in chosen if (of := named[info.filename]) is not None and isinstance(of, wanted)]
            for info in chosen if taken else ():
                if info not in taken:
                    skip(name, info.filename)
            chosen = taken or chosen
            for info in chosen:
                place = f"{where}, {info.filename}"
                inner = _known(declared or named[info.filename], place)
                with member(archive, info, limits, place) as stream:
                    reopen = partial(member, archive, info, limits, place)
                    yield from _parsed(stream, inner, table, limits, place, inside, reopen)
    elif kind is None and isinstance(found, (formats.Parquet, formats.Orc)):
        yield from _rows(str(path), found, table, limits, where)
    else:
        with unpacked(path, limits, where) as stream:
            known, again = _known(found, where), partial(unpacked, path, limits, where)
            yield from _parsed(stream, known, table, limits, where, None if kind in (None, "zip") else inside, again)


def _known(found: Format | None, where: str) -> Format:
    if found is None:
        raise UnreachableError("the file's name does not tell its format", where, "declare it: FileReader(format=…)")
    return found


def _parsed(
    stream: IO[bytes],
    found: Format,
    table: Table,
    limits: Limits,
    where: str,
    inside: list[str] | None,
    again: Reopen,
) -> Iterator[SourceBatch]:
    """Yield the rows of a stream, by way of an unpacked copy if its format needs to seek in it.

    `inside` gets the SHA-256 of one that is unpacked, None stands for one that is not. `again` opens the same stream
    once more, from its beginning.
    """
    source = stream
    with ExitStack() as stack:
        if inside is not None and isinstance(found, SEEKING):
            source = stack.enter_context(tempfile.TemporaryFile(prefix="granary-"))
            shutil.copyfileobj(stream, source)
            source.seek(0)
        yield from _rows(source, found, table, limits, where, again)
        if inside is not None:
            while stream.read(1 << 20):
                pass  # checksums come last: also of what nobody asked for
            inside.append(content(stream))


def _rows(  # noqa: PLR0911 - one format, one line
    source: IO[bytes] | str, found: Format, table: Table, limits: Limits, where: str, again: Reopen | None = None
) -> Iterator[SourceBatch]:
    """Yield the rows of a stream, or for Parquet and ORC of a path, in a format."""
    if isinstance(found, formats.Parquet):
        return columnar.read_parquet(source)
    if isinstance(found, formats.Orc):
        return columnar.read_orc(source)
    assert not isinstance(source, str)
    if isinstance(found, formats.Csv):
        return delimited.read(source, found, table, limits, where, again)
    if isinstance(found, formats.JsonLines):
        return json_rows.read_lines(source, table, limits, where)
    if isinstance(found, formats.Json):
        return json_rows.read_document(source, found, table, limits, where)
    if isinstance(found, formats.Avro):
        return avro.read(source, limits, where)
    if isinstance(found, formats.Excel):
        return excel.read(source, found, table, limits, where)
    if isinstance(found, formats.FixedWidth):
        return fixed_width.read(source, found, table, limits, where)
    return xml_rows.read(source, found, table, limits, where)
