"""Delimited text: parsed block by block, straight to the contract's types; rows that do not fit, one by one."""

from __future__ import annotations

import csv as rfc4180
import re
from collections import Counter
from dataclasses import replace
from typing import IO, TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from granary.load.values import beyond
from granary.readers.files.dialect import beginning, detect
from granary.readers.files.names import NOBODY, numbered
from granary.readers.files.notation import THREE, may_be_thousands, null_words_of
from granary.readers.files.records import Quoting, records
from granary.readers.files.text import HEAD_BYTES, LEGACY, Doubt, certain, utf8
from granary.readers.files.titles import line_of_header
from granary.readers.files.unpack import damaged
from granary.sources.units import Rejected, SourceBatch, UnreadableError
from granary.warehouse.records import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from granary.readers.files.formats import Csv
    from granary.readers.files.limits import Limits
    from granary.readers.files.notation import Notation
    from granary.sources.spec import Table

    Reopen = Callable[[], AbstractContextManager[IO[bytes]]]

FAILURES = 3
"""Blocks in which a column may fail to parse before it is read as text from the start."""

TINY = re.compile(rb"[eE]-\d{3}")
"""Numbers that may be too small for a float64, and become zero."""

FAILED = re.compile(r"In CSV column #(\d+)")
GUESSED = Change("", "guessed", f"the text is not UTF-8 and is read as {LEGACY}: declare its encoding")
ADVICE = "ask the source to deliver it again"


def read(
    stream: IO[bytes], options: Csv, table: Table, limits: Limits, where: str, reopen: Reopen | None = None
) -> Iterator[SourceBatch]:
    """Yield a delimited text's rows.

    A block parses straight to the contract's types. If a value in it does not, its column of that block stays text,
    and the load refuses the row alone; rows with too few or too many fields are refused here, with their line.
    `reopen` opens the text once more, from its beginning.

    Raises:
        UnreadableError: a quoted value never ends, or the text has no header where it should have one.
    """
    types = {name: column.type for column in table.columns for name in (column.name, *column.aliases)}
    words = null_words_of(table)
    head = stream.read(HEAD_BYTES)
    headless = options.header is False or bool(options.columns)
    doubt = None if certain(head, options.encoding) else Doubt(reopen, head)
    known = {name.lower() for name in types}
    declared, options = options, detect(head, options, known)
    if options.skip and not headless:
        lines_above = line_of_header(beginning(head, options.encoding), options, known)
        options = detect(head, replace(declared, skip=lines_above), known)
    quoting = Quoting(*(str(each).encode() for each in (options.delimiter, options.quote, options.escape)))
    runs = records(utf8(head, stream, doubt or str(options.encoding)), quoting, limits.record, where)
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
                    parser.take_out(words)
                    limits.check_columns(len(parser.names), where)
                at = end if parser is None or options.header else at
            data, line = data[at:], first + data.count(b"\n", 0, at)
        if parser is not None and data:
            lines += 1
            notes = (GUESSED,) if doubt and doubt.encoding == LEGACY else ()
            yield replace(parser.source_batch(data, line), notes=notes)
    if parser is None:
        if not headless:
            raise UnreadableError("the file is empty, without even a header", where, ADVICE)
        parser = Parser(options.columns or tuple(table.schema.names), types, options, quoting)
    if not lines:
        yield parser.source_batch(b"", 1)


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
        self.notation = options.notation
        self.words: Mapping[str, tuple[str, ...]] = {}
        # What Arrow cannot read as it is written, or reads as another value, stays text until it is settled.
        always = [name for name, kind in self.types.items() if _rewritten(self.notation, kind)]
        self.failures: Counter[str] = Counter(dict.fromkeys(always, FAILURES))

    def take_out(self, words: Mapping[str, tuple[str, ...]]) -> None:
        """Take words for no value, by column; such a column stays text until they are out of it."""
        self.words = words
        self.failures.update(dict.fromkeys(words.keys() & set(self.names), FAILURES))

    def source_batch(self, data: bytes, line: int) -> SourceBatch:
        """Return a run of records that begins on a line as rows."""
        as_text = frozenset(name for name, times in self.failures.items() if times >= FAILURES) | self._doubtful(data)
        rejected: tuple[tuple[int, Rejected], ...] = ()
        try:
            if b"\0" in data:
                raise pa.ArrowInvalid("a NUL byte")
            sound, batch = data, self._parse(data, as_text)
            if unreal := self._unreal(batch):
                batch = self._tolerant(data, as_text | unreal)
        except pa.ArrowInvalid:
            sound, rejected = self._sound(data, line)
            batch = self._tolerant(sound, as_text)
            if unreal := self._unreal(batch):
                batch = self._tolerant(sound, as_text | unreal)
        # Rows are lines unless a value has a newline, or a line is blank; refused rows know their own.
        straight = sound.count(b"\n") == batch.num_rows and not rejected
        batch, misfits = self.notation.settled(self._without_gap(batch), self.types, self.words)
        if not misfits:
            return SourceBatch(batch, rejected, text=True, line=line if straight else None)
        places = self._places(batch.num_rows, rejected, None if straight else data, line)
        bad = [(places[i][0], Rejected(name, why, row, places[i][1])) for i, (name, why, row) in misfits.items()]
        keep = pa.array([index not in misfits for index in range(batch.num_rows)])
        return SourceBatch(batch.filter(keep), tuple(sorted([*rejected, *bad], key=lambda each: each[0])), text=True)

    def _places(
        self, rows: int, rejected: tuple[tuple[int, Rejected], ...], data: bytes | None, line: int
    ) -> list[tuple[int, int]]:
        """Return the index in the run, and the line, of each row that was not rejected; data if rows are no lines."""
        if data is None:
            return [(index, line + index) for index in range(rows)]
        gone = {index for index, _ in rejected}
        starts = [start for start, end in self.quoting.split(data) if data[start:end].strip(b"\r\n")]
        lines, at = [], 0
        for start in starts:
            line += data.count(b"\n", at, start)
            at = start
            lines.append(line)
        return [(index, lines[index]) for index in range(len(lines)) if index not in gone]

    def _doubtful(self, data: bytes) -> frozenset[str]:
        """Return columns to be parsed value by value: Arrow takes 0x1F for 31, 1e-400 for 0, and 1.000 for 1.00."""
        codes = np.frombuffer(data, np.uint8)
        lower = codes | 0x20  # many times as quick as looking for words of two characters
        kinds = []
        if ((lower[1:] == ord("x")) & (codes[:-1] == ord("0"))).any():
            kinds.append(pa.types.is_integer)
        if ((lower[:-1] == ord("e")) & (codes[1:] == ord("-"))).any() and TINY.search(data):
            kinds.append(pa.types.is_floating)
        if any(map(may_be_thousands, self.types.values())) and _three_decimals(codes, self.options.decimal):
            kinds.append(may_be_thousands)
        return frozenset(name for name, kind in self.types.items() if any(fits(kind) for fits in kinds))

    def _unreal(self, batch: pa.RecordBatch) -> frozenset[str]:
        """Return the columns with a number that is not finite (sent as such, or as 1e400), or with the year 0."""
        return frozenset(
            name
            for name, values in zip(self.names, batch.columns, strict=True)
            if beyond(values) is not None
            or (pa.types.is_floating(values.type) and pc.all(pc.is_finite(values)).as_py() is False)
        )

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


def _three_decimals(codes: np.ndarray, point: str) -> bool:
    """Return whether some decimal point is followed by exactly three digits."""
    if not point.isascii():
        return True
    points = np.flatnonzero(codes[:-THREE] == ord(point))
    digit = [(codes[points + place] - ord("0")) < 10 for place in range(1, THREE + 1)]  # noqa: PLR2004 - unsigned
    points = points[np.logical_and.reduce(digit)] + THREE + 1
    return bool((points == len(codes)).any() or ((codes[points[points < len(codes)]] - ord("0")) > 9).any())  # noqa: PLR2004


def _rewritten(notation: Notation, kind: pa.DataType) -> bool:
    """Return whether Arrow's parser is not to be trusted with a type: it reads 31.02. as 3 March, and knows no groups.

    Of float32, it makes zero out of 1e-60; text is read by what refuses that.
    """
    t = pa.types
    if t.is_timestamp(kind) or t.is_date(kind):
        return bool(notation.dates)
    return bool(notation.thousands) or t.is_float32(kind)


def _no_text(record: bytes) -> str | None:
    """Return why a record is not text that Postgres can hold, or None."""
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
        or t.is_decimal(wanted)
        or t.is_date32(wanted)
        or t.is_timestamp(wanted)
        or t.is_boolean(wanted)
    )
