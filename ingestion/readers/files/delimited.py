"""Delimited text: parsed block by block, straight to the contract's types; rows that do not fit, one by one."""

from __future__ import annotations

import csv as rfc4180
import re
from collections import Counter
from typing import IO, TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from ingestion.readers.files.dialect import detect
from ingestion.readers.files.names import NOBODY, numbered
from ingestion.readers.files.records import Quoting, records
from ingestion.readers.files.text import HEAD_BYTES, utf8
from ingestion.readers.files.unpack import damaged
from ingestion.spec import Chunk, Rejected, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ingestion.readers.files.formats import Csv
    from ingestion.readers.files.limits import Limits
    from ingestion.spec import Table

FAILURES = 3
"""Blocks in which a column may fail to parse before it is read as text from the start."""

FAILED = re.compile(r"In CSV column #(\d+)")
ADVICE = "ask the source to deliver it again"


def read(stream: IO[bytes], options: Csv, table: Table, limits: Limits, where: str) -> Iterator[Chunk]:
    """Yield a delimited text's rows.

    A block parses straight to the contract's types. If a value in it does not, its column of that block stays text,
    and the load refuses the row alone; rows with too few or too many fields are refused here, with their line.

    Raises:
        UnreadableError: a quoted value never ends, or the text has no header where it should have one.
    """
    types = {name: column.type for column in table.columns for name in (column.name, *column.aliases)}
    worded = {name for column in table.columns if column.null for name in (column.name, *column.aliases)}
    head = stream.read(HEAD_BYTES)
    headless = options.header is False or bool(options.columns)
    options = detect(head, options, {name.lower() for name in types})
    quoting = Quoting(*(str(each).encode() for each in (options.delimiter, options.quote, options.escape)))
    runs = records(utf8(head, stream, str(options.encoding)), quoting, limits.record, where)
    parser = None
    skip, lines = options.skip, 0
    for run, first in runs:
        data, line = run, first
        if parser is None:
            at = _after(data, skip)
            skip -= data.count(b"\n", 0, at)
            while parser is None and at < len(data):
                end = next(end for _, end in quoting.split(data[at:])) + at
                if data[at:end].strip():
                    parser = _parser(data[at:end], options, quoting, types, table, where)
                    parser.failures.update(dict.fromkeys(worded & set(parser.names), FAILURES))
                    limits.check_columns(len(parser.names), where)
                at = end if parser is None or options.header else at
            data, line = data[at:], first + data.count(b"\n", 0, at)
        if parser is not None and data:
            lines += 1
            yield parser.chunk(data, line)
    if parser is None:
        if not headless:
            raise UnreadableError("the file is empty, without even a header", where, ADVICE)
        parser = Parser(options.columns or tuple(table.schema.names), types, options, quoting)
    if not lines:
        yield parser.chunk(b"", 1)


def _after(data: bytes, lines: int) -> int:
    """Return where the text goes on after a number of lines."""
    at = 0
    for _ in range(lines):
        at = data.find(b"\n", at) + 1 or len(data)
    return at


def _parser(
    first: bytes, options: Csv, quoting: Quoting, types: Mapping[str, pa.DataType], table: Table, where: str
) -> Parser:
    """Return the parser for the columns that the first record, or the contract, names."""
    cells = _cells(first, options)
    named: Sequence[str]
    if options.header:
        named = numbered(cells, types)
        if cells and not cells[-1].strip() and not {named[-1], NOBODY} & types.keys():
            named[-1:] = [""]  # each row ends with a delimiter
        if not any(cell.strip() for cell in cells):
            raise UnreadableError("the header has no names", where, "declare the file's columns")
    else:
        named = options.columns or tuple(table.schema.names)
    return Parser(named, types, options, quoting)


def _cells(record: bytes, options: Csv) -> list[str]:
    row = rfc4180.reader(
        [record.decode("utf-8", "replace")],
        delimiter=str(options.delimiter),
        quotechar=options.quote or None,
        quoting=rfc4180.QUOTE_MINIMAL if options.quote else rfc4180.QUOTE_NONE,
        escapechar=options.escape or None,
    )
    try:
        return next(row)
    except (rfc4180.Error, StopIteration):
        return []


class Parser:
    """Parses runs of whole records of one text."""

    def __init__(self, names: Sequence[str], types: Mapping[str, pa.DataType], options: Csv, quoting: Quoting) -> None:
        """Remember the text's columns and how it is written; types that text is not parsed to stay text."""
        self.gap = f"column_{len(names)}" if names and not names[-1] else ""
        self.names = (*names[:-1], self.gap) if self.gap else tuple(names)
        self.options, self.quoting = options, quoting
        self.types = {name: types[name] for name in names if name in types and _parsed(types[name])}
        self.failures: Counter[str] = Counter()

    def chunk(self, data: bytes, line: int) -> Chunk:
        """Return a run of records that begins on a line as rows."""
        as_text = frozenset(name for name, times in self.failures.items() if times >= FAILURES)
        rejected: tuple[tuple[int, Rejected], ...] = ()
        try:
            if b"\0" in data:
                raise pa.ArrowInvalid("a NUL byte")
            batch = self._parse(data, as_text)
        except pa.ArrowInvalid:
            data, rejected = self._sound(data, line)
            batch = self._tolerant(data, as_text)
        # Rows are lines unless a value has a newline, or a line is blank; refused rows know their own.
        straight = data.count(b"\n") == batch.num_rows and not rejected
        return Chunk(self._without_gap(self._normal(batch)), rejected, text=True, line=line if straight else None)

    def _parse(self, data: bytes, as_text: frozenset[str]) -> pa.RecordBatch:
        """Parse sound records; those columns as text, the others to their types.

        Raises:
            pa.ArrowInvalid: a record has another number of fields, or a value does not fit.
        """
        types = {name: pa.string() if name in as_text else self.types.get(name, pa.string()) for name in self.names}
        if not data.strip():
            return pa.RecordBatch.from_arrays([pa.array([], types[n]) for n in self.names], names=list(self.names))
        options = self.options
        parsed = pcsv.read_csv(
            pa.BufferReader(data),
            pcsv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=list(self.names)),
            pcsv.ParseOptions(
                delimiter=options.delimiter,
                quote_char=options.quote or False,
                escape_char=options.escape or False,
                newlines_in_values=True,
            ),
            pcsv.ConvertOptions(
                column_types=types,
                null_values=list(options.null),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                decimal_point=options.decimal,
                timestamp_parsers=[*options.dates, pcsv.ISO8601] if options.dates else None,
            ),
        )
        return parsed.combine_chunks().to_batches()[0]

    def _tolerant(self, data: bytes, as_text: frozenset[str]) -> pa.RecordBatch:
        """Parse sound records, leaving as text what does not fit its type.

        Raises:
            UnreadableError: they are not sound after all.
        """
        while True:
            try:
                return self._parse(data, as_text)
            except pa.ArrowInvalid as error:
                found = FAILED.search(str(error))
                name = self.names[int(found[1])] if found else None
                if name is None or name in as_text:
                    raise damaged(error, "", "delimited text") from None
                self.failures[name] += 1
                as_text |= {name}

    def _sound(self, data: bytes, line: int) -> tuple[bytes, tuple[tuple[int, Rejected], ...]]:
        """Split off the records that are no rows: with too few or too many fields, or that are not text."""
        good: list[bytes] = []
        bad: list[tuple[int, Rejected]] = []
        spans = [(start, end) for start, end in self.quoting.split(data) if data[start:end].strip(b"\r\n")]
        wrong = self._ragged(b"".join(data[start:end] for start, end in spans))
        at = 0
        for index, (start, end) in enumerate(spans):
            line += data.count(b"\n", at, start)
            at = start
            record = data[start:end]
            reason = f"has {wrong[index]} fields, not {len(self.names)}" if index in wrong else _no_text(record)
            if reason:
                shown = record.rstrip(b"\r\n").replace(b"\0", b"\\x00").decode("utf-8", "backslashreplace")
                bad.append((index, Rejected("", reason, {"line": shown}, line)))
            else:
                good.append(record)
        return b"".join(good), tuple(bad)

    def _ragged(self, data: bytes) -> dict[int, int]:
        """Return the records whose number of fields is not that of the columns: index -> fields."""
        wrong: dict[int, int] = {}

        def note(row: pcsv.InvalidRow) -> str:
            wrong[row.number - 1] = row.actual_columns
            return "skip"

        if data:
            pcsv.read_csv(
                pa.BufferReader(data),
                pcsv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=list(self.names)),
                pcsv.ParseOptions(
                    delimiter=self.options.delimiter,
                    quote_char=self.options.quote or False,
                    escape_char=self.options.escape or False,
                    newlines_in_values=True,
                    invalid_row_handler=note,
                ),
                pcsv.ConvertOptions(column_types=dict.fromkeys(self.names, pa.binary()), include_columns=[]),
            )
        return wrong

    def _without_gap(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Leave out what follows the delimiter at the end of each row: nothing, unless a row has a value there."""
        if not self.gap or pc.any(pc.not_equal(batch.column(self.gap), "")).as_py():
            return batch
        return batch.drop_columns([self.gap])

    def _normal(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Write values that stayed text as the load reads them: ISO 8601 dates, a point before decimals."""
        if self.options.decimal == "." and not self.options.dates:
            return batch
        columns = []
        for name, values in zip(self.names, batch.columns, strict=True):
            wanted = self.types.get(name)
            if wanted is None or values.type == wanted:
                columns.append(values)
            elif pa.types.is_timestamp(wanted) or pa.types.is_date(wanted):
                columns.append(
                    _iso(values, self.options.dates, "%Y-%m-%d" + " %H:%M:%S" * pa.types.is_timestamp(wanted))
                )
            else:
                columns.append(pc.replace_substring(values, self.options.decimal, "."))
        return pa.RecordBatch.from_arrays(columns, names=list(self.names))


def _iso(values: pa.Array, patterns: tuple[str, ...], shape: str) -> pa.Array:
    """Return dates that are written in one of the patterns in ISO 8601, and others as they are."""
    for pattern in patterns:
        parsed = pc.strptime(values, pattern, "us", error_is_null=True)
        values = pc.coalesce(pc.strftime(parsed, shape), values)
    return values


def _no_text(record: bytes) -> str | None:
    """Return why a record is no text that Postgres can hold, or None."""
    if b"\0" in record:
        return "holds a NUL byte"
    try:
        record.decode("utf-8")
    except UnicodeDecodeError as error:
        return f"is not text: byte {error.object[error.start]:#04x} is invalid in its encoding"
    return None


def _parsed(wanted: pa.DataType) -> bool:
    """Return whether text is parsed to a type on reading it."""
    t = pa.types
    return bool(
        t.is_integer(wanted)
        or t.is_floating(wanted)
        or t.is_decimal128(wanted)
        or t.is_date32(wanted)
        or t.is_timestamp(wanted)
        or t.is_boolean(wanted)
    )
