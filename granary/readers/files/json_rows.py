"""JSON Lines, parsed by Arrow block by block, and JSON documents, read value by value: neither is ever held whole."""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import replace
from decimal import Decimal
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from granary.load.json_objects import from_rows
from granary.readers.files.text import BLOCK_BYTES, certain, encoding_of, lines, utf8
from granary.sources.units import Rejected, SourceBatch, UnreadableError
from granary.warehouse.json_text import BLANK, MAX_DEPTH, NotJsonError, decode, decode_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from granary.readers.files.formats import Json
    from granary.readers.files.limits import Limits
    from granary.sources.spec import Table

BATCH_ROWS = 16_384
KEY = re.compile(rb'"([^"\\]*)"\s*:')
ZONE = r"(Z|[+-]\d\d:?\d\d)$"
EXACT_DIGITS = 16
"""Every number of fewer digits is a double's shortest form, so it comes out as it went in."""
TINY = 1e-290
VERY_SMALL = re.compile(rb"[:\s]-?[\d.]+[eE]-\d{3}")
ADVICE = "ask the source to deliver it again"


def read_lines(stream: IO[bytes], table: Table, limits: Limits, where: str) -> Iterator[SourceBatch]:
    """Yield the rows of JSON Lines; if a line of a block does not fit, its lines are read one by one.

    Raises:
        UnreadableError: a line is too long.
    """
    head = stream.read(1 << 16)
    extra: dict[str, pa.DataType] = {}
    empty = True
    for data, line in lines(utf8(head, stream, encoding_of(head, "utf-8")), limits.record, where):
        source_batch = parse_lines(table, data, line, extra, limits, where)
        empty &= not source_batch.rows
        if source_batch.rows:
            yield source_batch
    if empty:
        yield from_rows(table, [])


def parse_lines(
    table: Table, data: bytes, line: int, extra: dict[str, pa.DataType], limits: Limits, where: str
) -> SourceBatch:
    """Parse a run of whole lines, of which the first has this number.

    `extra` remembers the types of columns that the contract does not name.
    """
    if not _only_objects(data) or _is_deep(data) or any(sum(names) > 1 for names in _used(table, data)):
        return _by_line(table, data, line)
    if (keys := _keys(data, [name.encode() for name in (*table.schema.names, *extra)])) > table.max_new_columns:
        return _not_crowded(_by_line(table, data, line), keys, limits, where)
    wanted = {field.name: field.type for field in _fields(table, data)}
    # An instant needs its zone, and a number is not a date. Arrow is not so strict, so it gives us the text.
    times = {name: kind for name, kind in wanted.items() if pa.types.is_timestamp(kind) or pa.types.is_date(kind)}
    schema = pa.schema(list((wanted | dict.fromkeys(times, pa.string()) | extra).items()))
    try:
        batch = _arrow(data, schema)
        # Arrow takes text that looks like a time for one, and keeps objects; both depend on the block.
        new = {name: batch.schema.field(name).type for name in batch.schema.names if name not in schema.names}
        if any(pa.types.is_timestamp(kind) for kind in new.values()):
            new = {name: pa.string() if pa.types.is_timestamp(kind) else kind for name, kind in new.items()}
            batch = _arrow(data, pa.schema([*schema, *new.items()]))
        batch = _timed(batch, times)
        batch.validate(full=True)  # text is UTF-8
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return _by_line(table, data, line)
    if any(pa.types.is_nested(field.type) for field in batch.schema) or b"\\u0000" in data or _rounds(batch, new, data):
        return _by_line(table, data, line)
    extra |= {name: kind for name, kind in new.items() if not pa.types.is_null(kind)}
    return SourceBatch(batch, line=line if data.count(b"\n") == batch.num_rows else None)


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


def _keys(data: bytes, known: Sequence[bytes]) -> int:
    """Return how many different keys a run of lines has beyond those that are known: each would be a column.

    Counting the keys that are known is quick, and shows in most runs that there are no others.
    """
    if data.count(b'":') <= sum(data.count(b'"%s":' % name) for name in known):
        return 0
    return len(set(KEY.findall(data)) - set(known))


def _not_crowded(source_batch: SourceBatch, keys: int, limits: Limits, where: str) -> SourceBatch:
    """Return rows if only some of them have too many keys.

    Raises:
        UnreadableError: most do, so it is the file that is not as agreed.
    """
    if source_batch.batch.num_rows * 2 < source_batch.rows:
        limits.check_columns(keys, where)
    return source_batch


def _timed(batch: pa.RecordBatch, times: Mapping[str, pa.DataType]) -> pa.RecordBatch:
    """Parse the columns of times.

    Raises:
        pa.ArrowInvalid: one is not a time, or an instant lacks its zone.
    """
    for name, kind in times.items():
        place = batch.schema.get_field_index(name)
        texts = batch.column(place)
        if pa.types.is_date(kind):
            batch = batch.set_column(place, name, texts.cast(kind))
            continue
        if kind.tz and pc.all(pc.match_substring_regex(texts, ZONE)).as_py() is False:
            raise pa.ArrowInvalid("an instant has no zone")
        batch = batch.set_column(place, name, texts.cast(pa.timestamp("us", kind.tz and "UTC")).cast(kind))
    return batch


def _used(table: Table, data: bytes) -> list[list[bool]]:
    """Return for each column of the contract which of its names stand in a run of lines."""
    return [[json.dumps(n).encode() in data for n in (c.name, *c.aliases)] if c.aliases else [] for c in table.columns]


def _fields(table: Table, data: bytes) -> Iterator[pa.Field]:
    """Yield the contract's columns, each under the one name that the block uses."""
    for column, used in zip(table.columns, _used(table, data), strict=True):
        names = [column.name, *column.aliases]
        yield pa.field(next((name for name, here in zip(names, used, strict=False) if here), column.name), column.type)


def _is_deep(data: bytes) -> bool:
    """Return whether a line may be nested deeper than values may be: Arrow's reader overflows the stack on it."""
    if data.count(b"[") + data.count(b"{") < data.count(b"\n") + MAX_DEPTH:
        return False
    codes = np.frombuffer(data, np.uint8)
    opening = np.flatnonzero((codes == ord("[")) | (codes == ord("{")))
    lines = np.searchsorted(np.flatnonzero(codes == ord("\n")), opening)
    return bool(np.bincount(lines).max() > MAX_DEPTH)


def _rounds(batch: pa.RecordBatch, new: Iterable[str], data: bytes) -> bool:
    """Return whether a double may not be the number that was written; looks at the text only where it has to."""
    doubles = [field.name for field in batch.schema if pa.types.is_floating(field.type)]
    for name in doubles:
        size = pc.abs(batch.column(name))
        extremes = pc.min_max(size).as_py()
        if extremes["max"] is None:
            continue
        # From 2^53 on whole numbers have gaps, and NaN and Infinity are no JSON; near zero, small ones become zero.
        if not extremes["max"] < 2**53 or pc.any(pc.is_nan(size)).as_py():
            return True
        if extremes["min"] < TINY and (b"e-" in data or b"E-" in data) and VERY_SMALL.search(data):
            return True
    # A double of the contract rounds by agreement.
    return not all(_exact(name, batch.column(name), data) for name in new if name in doubles)


def _exact(name: str, values: pa.Array, data: bytes) -> bool:
    """Return whether a column of doubles surely has each number as it was written."""
    texts = re.findall(rb"%s\s*:\s*(-?\d[\d.eE+-]*)" % re.escape(json.dumps(name).encode()), data)
    doubles = values.drop_null().to_pylist()
    return len(texts) == len(doubles) and all(
        len(text) < EXACT_DIGITS or Decimal(text.decode()) == Decimal(repr(double))
        for text, double in zip(texts, doubles, strict=True)
    )


def _arrow(data: bytes, schema: pa.Schema) -> pa.RecordBatch:
    parsed = pj.read_json(
        pa.BufferReader(data),
        pj.ReadOptions(use_threads=False, block_size=len(data) + 1),
        pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="infer"),
    )
    return parsed.combine_chunks().to_batches()[0]


def _by_line(table: Table, data: bytes, first: int) -> SourceBatch:
    values: list[Any] = []
    places: list[int] = []
    broken: dict[int, Rejected] = {}
    for line, text in enumerate(data.split(b"\n")[:-1], first):
        if not text.strip():
            continue
        try:
            values.append(decode(text))
            places.append(line)
        except NotJsonError as error:
            shown = text.rstrip(b"\r").decode("utf-8", "backslashreplace").replace("\0", "\\x00")
            broken[len(values) + len(broken)] = Rejected("", str(error), {"line": shown}, line)
    source_batch = from_rows(table, values)
    good = [index for index in range(len(values) + len(broken)) if index not in broken]
    for index, bad in source_batch.rejected:
        broken[good[index]] = replace(bad, line=places[index])
    return SourceBatch(source_batch.batch, tuple(sorted(broken.items())))


def read_document(stream: IO[bytes], options: Json, table: Table, limits: Limits, where: str) -> Iterator[SourceBatch]:
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
            keys = len({key for value in batch if isinstance(value, dict) for key in value})
            yield _not_crowded(from_rows(table, batch), keys, limits, where)
        if empty:
            yield from_rows(table, [])
    except ValueError as error:
        words = getattr(error, "msg", None) or str(error)[:200]
        raise UnreadableError(f"the file is not JSON: {words}", where, ADVICE) from None


class _Cursor:
    """A place in a JSON text that is read as far as needed, and forgotten as soon as it is passed."""

    def __init__(self, stream: IO[bytes], limit: int, where: str) -> None:
        head = stream.read(BLOCK_BYTES)
        self.encoding = certain(head) or "utf-8"  # RFC 8259: a byte that is not UTF-8 is damage, not another encoding
        self.blocks = utf8(head, stream, self.encoding)
        self.utf8 = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.text, self.at, self.done = "", 0, False
        self.limit, self.where = limit, where

    def rows(self, path: list[str]) -> Iterator[Any]:
        """Yield the elements of the array at a path, or the one object there, and check what stands around it."""
        within = [self._into(key) for key in path]
        if self._peek() == "[":
            yield from self._elements()
        else:
            yield self._value()
        for key, before in zip(reversed(path), reversed(within), strict=True):
            self._out(key, before)
        if self._peek():
            raise ValueError("there is more than one value; is it JSON Lines?")

    def _elements(self) -> Iterator[Any]:
        self.at += 1
        if self._peek() == "]":
            self.at += 1
            return
        while True:
            yield self._value()
            mark = self._peek()
            self.at += 1
            if mark == "]":
                return
            if mark != ",":
                raise ValueError("an array has no end")

    def _into(self, key: str) -> set[str]:
        """Step to the value of a key of the object at hand, and return the keys before it."""
        if self._peek() != "{":
            raise ValueError(f"there is no object that could have the key {key!r}")
        self.at += 1
        before: set[str] = set()
        while self._peek() == '"':
            if self._key(before) == key:
                return before
            self._value()
            if self._peek() == ",":
                self.at += 1
        raise ValueError(f"there is no key {key!r}")

    def _out(self, key: str, before: set[str]) -> None:
        """Step over what follows the value of a key, to the end of its object."""
        seen = before | {key}
        while (mark := self._peek()) == ",":
            self.at += 1
            if self._peek() != '"':
                break
            self._key(seen)
            self._value()
        if mark != "}":
            raise ValueError("an object has no end")
        self.at += 1

    def _key(self, seen: set[str]) -> str:
        """Step over a key and its colon."""
        name = str(self._value())
        if name in seen:
            raise ValueError(f"the field {name[:80]!r} is there twice")
        seen.add(name)
        if self._peek() != ":":
            raise ValueError(f"the field {name[:80]!r} has no value")
        self.at += 1
        return name

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
                value, end = decode_at(self.text, self.at)
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
