"""One run of a connector for one table: its messages as batches of rows, up to a state that can be committed."""

from __future__ import annotations

import json
import time
import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.load.json_objects import from_rows
from granary.readers.connectors import batches, messages, schema
from granary.readers.connectors.process import Process, environment
from granary.readers.files.copies import own_folder
from granary.readers.files.json_rows import parse_lines
from granary.readers.files.limits import Limits
from granary.sources.units import Rejected, SourceBatch, UnreachableError
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point
from granary.warehouse.json_text import shown

if TYPE_CHECKING:
    import tempfile
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from granary.sources.spec import Table

PREFIX = "granary-connector-"
BLOCK_BYTES = 1 << 20
"""Bytes of records that become one batch."""
RUN_FOLDER = "{run folder}"
"""What stands in a configuration for the folder of the run, which goes with it."""
SHOWN = 2_000
"""Characters that the quarantine keeps of a line that is no message."""


@dataclass(frozen=True)
class Position:
    """Where a tap goes on: its own state, and the version of the table that is in the warehouse."""

    state: Any = None
    version: int | None = None

    @classmethod
    def load(cls, text: str | None, where: str) -> Position:
        """Return the position that a watermark holds.

        Raises:
            GranaryError: the watermark is something else.
        """
        if text is None:
            return cls()
        try:
            found = json.loads(text)
            return cls(found["state"], found["version"])
        except (ValueError, KeyError, TypeError):
            todo = "the table was read in another way before: `granary load TABLE --full-refresh`"
            raise GranaryError("its watermark is no state of a tap", where, todo) from None

    def dump(self) -> str:
        """Return it as a watermark."""
        return json.dumps({"state": self.state, "version": self.version})


@dataclass(frozen=True)
class Call:
    """How a connector is called: its name, the command, its configuration, and what is never shown."""

    name: str
    command: tuple[str, ...]
    config: Mapping[str, Any]
    secrets: tuple[str, ...]
    silence: float
    more: Mapping[str, str]

    def start(self, folder: Path, words: Sequence[str]) -> Process:
        """Start it with its configuration in a folder, which only its owner may enter."""
        path = folder / "config.json"
        path.write_text(json.dumps(self.config).replace(RUN_FOLDER, str(folder)), encoding="utf-8")
        command = [*self.command, "--config", str(path), *words]
        return Process(self.name, command, environment(str(folder), self.more), self.secrets)

    def printed(self, words: Sequence[str]) -> bytes:
        """Return what it prints and end it, such as its catalogue.

        Raises:
            UnreachableError: it fails.
        """
        with own_folder(PREFIX) as folder:
            process = self.start(Path(folder), words)
            try:
                return b"\n".join(process.lines(self.silence))
            finally:
                process.kill()


class Run:
    """A connector at work for one table. It may rest between two batches that are committed: its pipe is full then."""

    def __init__(
        self, call: Call, table: Table, names: Iterable[str], catalog: Mapping[str, Any], position: Position
    ) -> None:
        """Start it.

        Args:
            call: how.
            table: the contract.
            names: what the stream is called in messages.
            catalog: the catalogue, with the stream selected; without streams, it is not handed over.
            position: where to go on.
        """
        self.call, self.table, self.names = call, table, set(names)
        self.position = self.began = position
        self.where = f"{call.name}, {table.location}"
        self.whole = self.resting = self.ended = False
        self.activated: int | None = None
        self.folder = own_folder(PREFIX)
        words = []
        for option, value in (("--catalog", catalog if catalog.get("streams") else None), ("--state", position.state)):
            if value is not None:
                path = Path(self.folder.name) / f"{option[2:]}.json"
                path.write_text(json.dumps(value), encoding="utf-8")
                words += [option, str(path)]
        self.process = call.start(Path(self.folder.name), words)
        self.lines: Iterator[bytes] = self.process.lines(call.silence)
        self._finalizer = weakref.finalize(self, _close, self.process, self.folder)
        self._heads = messages.Heads()
        self._missing: list[str] = []
        self._count = 0

    def close(self) -> None:
        """End it and remove what it was given."""
        self._finalizer()

    @property
    def replaces(self) -> bool:
        """Whether the tap sent the table as a new version and declared that one to be all there is."""
        return self.activated is not None and self.began.version not in (None, self.activated)

    def source_batches(self, rows: int, seconds: float) -> Iterator[SourceBatch]:
        """Yield rows until a state after so many rows or seconds, or until the end.

        After a state it rests (`resting`), and the next call goes on. A run that is `whole`, or in which a new version
        of the table comes, does not rest.

        Raises:
            UnreachableError: the connector failed.
            ContractBrokenError: a schema is not as agreed.
        """
        self.resting, empty = False, True
        for source_batch in self._delivered(rows, seconds):
            empty = False
            yield self._agreed(source_batch)
        if not self.resting:
            if empty:
                yield self._agreed(from_rows(self.table, []))
            self._finish()

    def _delivered(self, rows: int, seconds: float) -> Iterator[SourceBatch]:
        began, gathered = time.monotonic(), _Gathered(self.table, self.where)
        self._count = 0
        for line in self.lines:
            if found := self._heads.record(line):
                stream, record = found
                if stream in self.names:
                    yield from gathered.text(record.text)
                    self._see(record.version)
                    self._count += 1
                continue
            message = messages.message(line) if line.strip() else None
            if message is None or (isinstance(message, dict) and message.get("stream", "") not in ("", *self.names)):
                continue
            kind = "" if isinstance(message, str) else message["type"]
            if isinstance(message, dict) and kind == "RECORD":
                yield from gathered.value(message["record"], len(line))
                self._see(message.get("version"))
                self._count += 1
            elif kind == "STATE":
                self.position = replace(self.position, state=json.loads(line)["value"])
                if not self.whole and (self._count >= rows or time.monotonic() - began >= seconds):
                    yield from gathered.batches()
                    self.resting, self.began = True, self.position
                    fault_point("connector-state")
                    return
            else:
                yield from gathered.batches()
                yield from self._other(message, line)
        yield from gathered.batches()

    def _other(self, message: dict[str, Any] | str, line: bytes) -> Iterator[SourceBatch]:
        """Take note of a message that is neither record nor state; what is none at all goes to the quarantine."""
        if isinstance(message, str):
            text = line[:SHOWN].decode("utf-8", "backslashreplace").replace("\0", "\\x00")
            none = from_rows(self.table, []).batch
            yield SourceBatch(none, ((0, Rejected("", message, {"line": shown(text)})),))
        elif message["type"] == "SCHEMA":
            self._missing = schema.check(self.table, message["schema"], self.where)
        elif message["type"] == "ACTIVATE_VERSION":
            self.activated = message["version"]
            self._see(self.activated)
        else:
            for source_batch in batches.read(message, self.table, Path(self.folder.name).resolve(), self.where):
                self._count += source_batch.rows
                yield source_batch

    def _finish(self) -> None:
        self.ended = True
        version = self.position.version
        if version not in (None, self.began.version, self.activated) and self.began.version is not None:
            raise UnreachableError(
                "the tap began to send the table as a new version, and ended before it declared that one complete",
                self.where,
                "nothing of this run has landed; load again",
            )

    def _see(self, version: Any) -> None:
        """Take note of the version of the table that comes; what replaces another one is not committed in parts."""
        if isinstance(version, int) and version != self.position.version:
            self.whole = self.whole or self.began.version is not None
            self.position = replace(self.position, version=version)

    def _agreed(self, source_batch: SourceBatch) -> SourceBatch:
        """Return a batch without the columns that the tap's schema has not, so that they are found to be missing."""
        rejected = tuple((place, replace(bad, line=None)) for place, bad in source_batch.rejected)
        batch = source_batch.batch
        for name in self._missing:
            if name in batch.schema.names:
                batch = batch.remove_column(batch.schema.get_field_index(name))
        return SourceBatch(batch, rejected, notes=source_batch.notes)


class _Gathered:
    """Records that are to become a batch: in order, whichever way they were written."""

    def __init__(self, table: Table, where: str) -> None:
        self.table, self.where = table, where
        self.texts: list[bytes] = []
        self.values: list[Any] = []
        self.size = 0
        self.extra: dict[str, pa.DataType] = {}
        self.limits = Limits()

    def text(self, record: bytes) -> Iterator[SourceBatch]:
        """Take a record as it was written."""
        if self.values or self.size > BLOCK_BYTES:
            yield from self.batches()
        self.texts.append(record)
        self.size += len(record)

    def value(self, record: Any, size: int) -> Iterator[SourceBatch]:
        """Take a record that was parsed from so many bytes."""
        if self.texts or self.size > BLOCK_BYTES:
            yield from self.batches()
        self.values.append(record)
        self.size += size

    def batches(self) -> Iterator[SourceBatch]:
        """Yield what was taken."""
        if self.texts:
            yield parse_lines(self.table, b"\n".join([*self.texts, b""]), 1, self.extra, self.limits, self.where)
        if self.values:
            yield from_rows(self.table, self.values)
        self.texts, self.values, self.size = [], [], 0


def _close(process: Process, folder: tempfile.TemporaryDirectory[str]) -> None:
    process.kill()
    folder.cleanup()
