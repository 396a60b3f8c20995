"""A look at a stream: its schema, its first rows as the contract that is to be written will have them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from granary.load.json_objects import fitted, texts
from granary.readers.connectors import batches, catalog, messages, schema
from granary.readers.connectors.run import Position, Run
from granary.sources.spec import Column, Table
from granary.sources.units import UnreachableError
from granary.warehouse.json_text import Flaw, NotJsonError, decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from granary.readers.connectors.reader import ConnectorReader
    from granary.sources.units import Rejected


@dataclass(frozen=True)
class Sample:
    """What was seen of a stream; `cursor` is the property past which the tap reads, `complete` says that it is all."""

    rows: pa.Table
    key: tuple[str, ...]
    cursor: str | None
    complete: bool


def look(reader: ConnectorReader, stream: str, rows: int) -> Sample:
    """Run a connector for one of its streams, until so many rows have come.

    Raises:
        GranaryError: there is no such stream, or the connector fails.
    """
    entry = catalog.find(reader.streams, stream, reader.name)
    anything = Table("sample", "A look.", stream, (Column("x", pa.string(), "x"),), "replace_unit", timedelta(days=1))
    needs, metadata = reader.needs.get(stream, ()), reader.metadata.get(stream, {})
    chosen = catalog.chosen(reader.streams, anything, needs, metadata, reader.name)
    run = Run(reader.call, anything, catalog.names_of(entry), chosen, Position())
    seen = _Seen(entry, Path(run.folder.name))
    try:
        for line in run.lines:
            seen.take(line, run)
            if seen.count >= rows:
                break
        return seen.sample(complete=seen.count < rows)
    finally:
        run.close()


class _Seen:
    def __init__(self, entry: Mapping[str, Any], folder: Path) -> None:
        self.schema: Mapping[str, Any] = entry.get("schema") or {}
        self.key = tuple(entry.get("key_properties") or _table_key(entry))
        self.cursor = entry.get("replication_key")
        self.folder = folder
        self.values: list[dict[str, Any]] = []
        self.tables: list[pa.Table] = []
        self.count = 0

    def take(self, line: bytes, run: Run) -> None:
        """Take note of a line."""
        message = messages.message(line)
        if isinstance(message, str) or message["type"] == "STATE" or message["stream"] not in run.names:
            return
        if message["type"] == "SCHEMA":
            self.schema = message["schema"] if schema.properties(message["schema"]) else self.schema
            self.key = tuple(message.get("key_properties") or self.key)
            self.cursor = next(iter(message.get("bookmark_properties") or ()), self.cursor)
        elif message["type"] == "RECORD" and isinstance(message["record"], dict):
            self.values.append(message["record"])
            self.count += 1
        elif message["type"] == "BATCH":
            for path in batches.files(message, run.where):
                self._file(path, message.get("encoding") or {}, run.where)

    def _file(self, path: Path, encoding: Mapping[str, Any], where: str) -> None:
        if encoding.get("format") == "parquet":
            read = pq.read_table(path)
            self.tables.append(read.select([name for name in read.column_names if not name.startswith(batches.OF_DLT)]))
            self.count += self.tables[-1].num_rows
            return
        with batches.opened(path, encoding.get("compression") or "none") as lines:
            try:
                found = [decode(bytes(line)) for line in lines if line.strip()]
            except NotJsonError as error:
                raise UnreachableError(f"a file of a BATCH {error}", where, "load again") from None
        self.values += [row for row in found if isinstance(row, dict)]
        self.count += len(found)

    def sample(self, *, complete: bool) -> Sample:
        """Return what was seen."""
        named = schema.properties(self.schema)
        if self.tables:
            rows = pa.concat_tables(self.tables, promote_options="permissive")
        else:
            names = list(dict.fromkeys([*named, *(name for row in self.values for name in row)]))
            arrays = [_column(name, [row.get(name) for row in self.values], named.get(name, {})) for name in names]
            rows = pa.Table.from_arrays(arrays, names=names)
        key = self.key if set(self.key) <= {*rows.column_names} else ()
        cursor = self.cursor if self.cursor in rows.column_names and not rows[self.cursor].null_count else None
        return Sample(rows, key, cursor, complete)


def _table_key(entry: Mapping[str, Any]) -> Iterator[str]:
    for part in entry.get("metadata") or ():
        if not part["breadcrumb"]:
            yield from part.get("metadata", {}).get("table-key-properties") or ()


def _column(name: str, values: list[Any], said: Mapping[str, Any]) -> pa.Array:
    """Return a column in the type that its property announces; where values are not of it, as text."""
    wanted = schema.arrow(said)
    tries = [wanted, pa.timestamp("us")] if pa.types.is_timestamp(wanted) else [wanted]
    for kind in tries:
        rejected: dict[int, Rejected] = {}
        found = fitted(name, values, kind, [{}] * len(values), rejected)
        if not rejected:
            return found
    return texts([None if isinstance(value, Flaw) else value for value in values])
