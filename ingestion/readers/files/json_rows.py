"""JSON Lines, parsed by Arrow block by block, and JSON documents, read value by value: neither is ever held whole."""

from __future__ import annotations

import codecs
import json
import re
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from ingestion.checks import from_rows
from ingestion.readers.files.text import BLOCK_BYTES, certain, encoding_of, lines, utf8
from ingestion.spec import Chunk, Rejected, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ingestion.readers.files.formats import Json
    from ingestion.readers.files.limits import Limits
    from ingestion.spec import Table

BATCH_ROWS = 16_384
KEY = re.compile(rb'"([^"\\]*)"\s*:')
ZONE = r"(Z|[+-]\d\d:?\d\d)$"
BLANK = " \t\r\n"
ADVICE = "ask the source to deliver it again"


def read_lines(stream: IO[bytes], table: Table, limits: Limits, where: str) -> Iterator[Chunk]:
    """Yield the rows of JSON Lines; if a line of a block does not fit, its lines are read one by one.

    Raises:
        UnreadableError: a line is too long.
    """
    head = stream.read(1 << 16)
    extra: dict[str, pa.DataType] = {}
    empty = True
    for data, line in lines(utf8(head, stream, encoding_of(head, "utf-8")), limits.record, where):
        chunk = _block(table, data, line, extra, limits, where)
        empty &= not chunk.rows
        if chunk.rows:
            yield chunk
    if empty:
        yield from_rows(table, [])


def _block(table: Table, data: bytes, line: int, extra: dict[str, pa.DataType], limits: Limits, where: str) -> Chunk:
    """Parse a run of lines; `extra` remembers the types of columns that the contract does not name."""
    if not _only_objects(data):
        return _by_line(table, data, line)
    _check_keys(data, [name.encode() for name in (*table.schema.names, *extra)], limits, where)
    wanted = {field.name: field.type for field in _fields(table, data)}
    # An instant needs its zone. Arrow would take one without for UTC, so it gives us the text.
    times = {name: kind for name, kind in wanted.items() if pa.types.is_timestamp(kind)}
    schema = pa.schema(list((wanted | dict.fromkeys(times, pa.string()) | extra).items()))
    try:
        batch = _arrow(data, schema)
        # Arrow takes text that looks like a time for one, and keeps objects; both depend on the block.
        new = {name: batch.schema.field(name).type for name in batch.schema.names if name not in schema.names}
        if any(pa.types.is_timestamp(kind) for kind in new.values()):
            new = {name: pa.string() if pa.types.is_timestamp(kind) else kind for name, kind in new.items()}
            batch = _arrow(data, pa.schema([*schema, *new.items()]))
        batch = _timed(batch, times)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return _by_line(table, data, line)
    if any(pa.types.is_nested(field.type) for field in batch.schema) or b"\\u0000" in data:
        return _by_line(table, data, line)
    extra |= {name: kind for name, kind in new.items() if not pa.types.is_null(kind)}
    return Chunk(batch, line=line if data.count(b"\n") == batch.num_rows else None)


def _only_objects(data: bytes) -> bool:
    """Return whether every line is one object, as far as its braces tell.

    Arrow's reader crashes the process on a value of another kind at the top (pyarrow 26.0.1, a line `null`), so it
    must not see one. Such a value stands at the start of a line or after a brace that closes an object.
    """
    codes = np.frombuffer(data, np.uint8)
    after = np.append(codes[1:], ord("\n"))
    starts = np.concatenate(([0], np.flatnonzero(codes == ord("\n")) + 1))
    starts = starts[starts < len(codes)]
    good = b"{" in data and np.isin(codes[starts], np.frombuffer(b"{\r\n", np.uint8)).all()
    good &= (after[codes == ord("\r")] == ord("\n")).all()
    return bool(good and np.isin(after[codes == ord("}")], np.frombuffer(b",}]\r\n", np.uint8)).all())


def _check_keys(data: bytes, known: Sequence[bytes], limits: Limits, where: str) -> None:
    """Refuse a run of lines with too many different keys: each would be a column, as long as the run.

    Counting the keys that are known is quick, and shows in most runs that there are no others.
    """
    if data.count(b'":') > sum(data.count(b'"%s":' % name) for name in known):
        limits.check_columns(len(set(KEY.findall(data))), where)


def _timed(batch: pa.RecordBatch, times: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    """Parse the columns of times.

    Raises:
        pa.ArrowInvalid: one is no time, or an instant lacks its zone.
    """
    for name, kind in times.items():
        place = batch.schema.get_field_index(name)
        texts = batch.column(place)
        if kind.tz and pc.all(pc.match_substring_regex(texts, ZONE)).as_py() is False:
            raise pa.ArrowInvalid("an instant has no zone")
        batch = batch.set_column(place, name, texts.cast(pa.timestamp("us", kind.tz and "UTC")).cast(kind))
    return batch


def _fields(table: Table, data: bytes) -> Iterator[pa.Field]:
    """Yield the contract's columns, under the names that the block uses."""
    for column in table.columns:
        used = [name for name in column.aliases if json.dumps(name).encode() in data]
        if not used or f'"{column.name}"'.encode() in data:
            yield pa.field(column.name, column.type)
        yield from (pa.field(name, column.type) for name in used)


def _arrow(data: bytes, schema: pa.Schema) -> pa.RecordBatch:
    parsed = pj.read_json(
        pa.BufferReader(data),
        pj.ReadOptions(use_threads=False, block_size=len(data) + 1),
        pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="infer"),
    )
    return parsed.combine_chunks().to_batches()[0]


def _by_line(table: Table, data: bytes, first: int) -> Chunk:
    values: list[Any] = []
    places: list[int] = []
    broken: dict[int, Rejected] = {}
    for line, text in enumerate(data.split(b"\n")[:-1], first):
        if not text.strip():
            continue
        index = len(values) + len(broken)
        try:
            values.append(_decoder.decode(text.decode("utf-8").strip()))
            places.append(line)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", None) or str(error).partition(":")[0]
            shown = text.rstrip(b"\r").decode("utf-8", "backslashreplace").replace("\0", "\\x00")
            broken[index] = Rejected("", f"is no JSON: {reason}", {"line": shown}, line)
    return _rows(table, values, broken, places)


def _rows(
    table: Table, values: Sequence[Any], broken: Mapping[int, Rejected] | None = None, lines: Sequence[int] = ()
) -> Chunk:
    """Return JSON values as a chunk, with those that were broken before, by their place among all."""
    broken = dict(broken or {})
    chunk = from_rows(table, [_renamed(table, value) for value in values])
    places = [index for index in range(len(values) + len(broken)) if index not in broken]
    for index, bad in chunk.rejected:
        line = lines[index] if lines else bad.line
        broken[places[index]] = Rejected(bad.column, bad.reason, bad.payload, line)
    return Chunk(chunk.batch, tuple(sorted(broken.items())))


def _renamed(table: Table, row: Any) -> Any:
    """Return an object with its aliases as the contract's names and what is nested in it as JSON text."""
    if not isinstance(row, dict):
        return row
    aliases = {alias: column.name for column in table.columns for alias in column.aliases}
    return {
        (aliases[key] if key in aliases and aliases[key] not in row else key): (
            json.dumps(value, ensure_ascii=False, separators=(",", ":")) if isinstance(value, (dict, list)) else value
        )
        for key, value in row.items()
    }


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


_decoder = json.JSONDecoder(parse_constant=_constant)


def read_document(stream: IO[bytes], options: Json, table: Table, limits: Limits, where: str) -> Iterator[Chunk]:
    """Yield the rows of a JSON document.

    Raises:
        UnreadableError: it is damaged, has nothing at the path, or a value in it is too large.
    """
    cursor = _Cursor(stream, limits.record, where)
    try:
        values = cursor.rows([key for key in options.path.split(".") if key])
        empty = True
        while batch := list(islice(values, BATCH_ROWS)):
            empty = False
            limits.check_columns(len({key for value in batch if isinstance(value, dict) for key in value}), where)
            yield _rows(table, batch)
        if empty:
            yield from_rows(table, [])
    except (ValueError, RecursionError) as error:
        words = getattr(error, "msg", None) or str(error)[:200] or "it is nested too deeply"
        raise UnreadableError(f"the file is no JSON: {words}", where, ADVICE) from None


class _Cursor:
    """A place in a JSON text that is read as far as needed, and forgotten as soon as it is passed."""

    def __init__(self, stream: IO[bytes], limit: int, where: str) -> None:
        head = stream.read(BLOCK_BYTES)
        self.encoding = certain(head) or "utf-8"
        self.blocks = utf8(head, stream, self.encoding)
        self.utf8 = codecs.getincrementaldecoder("utf-8")()
        self.text, self.at, self.done = "", 0, False
        self.limit, self.where = limit, where

    def rows(self, path: list[str]) -> Iterator[Any]:
        """Yield the elements of the array at a path, or the one object there."""
        for key in path:
            self._into(key)
        if self._peek() != "[":
            yield self._value()
            if not path and self._peek():
                raise ValueError("there is more than one value; is it JSON Lines?")
            return
        self.at += 1
        if self._peek() == "]":
            return
        while True:
            yield self._value()
            mark = self._peek()
            self.at += 1
            if mark == "]":
                return
            if mark != ",":
                raise ValueError("an array has no end")

    def _into(self, key: str) -> None:
        """Step to the value of a key of the object at hand."""
        if self._peek() != "{":
            raise ValueError(f"there is no object that could have the key {key!r}")
        self.at += 1
        while self._peek() == '"':
            name = self._value()
            if self._peek() != ":":
                break
            self.at += 1
            if name == key:
                return
            self._value()
            if self._peek() == ",":
                self.at += 1
        raise ValueError(f"there is no key {key!r}")

    def _peek(self) -> str:
        """Return the next character that is not blank, "" at the end."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in BLANK:
                    return self.text[self.at]
                self.at += 1
            if not self._more():
                return ""

    def _value(self) -> Any:
        """Return the next value. One that touches the end of what was read may go on behind it."""
        self._peek()
        while True:
            try:
                value, end = _decoder.raw_decode(self.text, self.at)
                if end < len(self.text) or self.done:
                    self.at = end
                    return value
            except json.JSONDecodeError:
                if self.done:
                    raise
            if len(self.text) - self.at > self.limit:
                raise UnreadableError(f"a value is longer than {self.limit:,} bytes", self.where, "split it")
            self._more()

    def _more(self) -> bool:
        block = next(self.blocks, b"")
        self.done = self.done or not block
        self.text = self.text[self.at :] + self.utf8.decode(block, self.done)
        self.at = 0
        return not self.done
