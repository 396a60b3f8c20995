"""Workbooks: the one format that is held in memory, so a process of its own does that, within limits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import zipfile
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from granary.readers.files.notation import Notation
from granary.readers.files.titles import MOST_ROWS, row_of_header
from granary.readers.files.unpack import DAMAGED, damaged
from granary.readers.files.workbook import REFUSED
from granary.sources.units import Rejected, SourceBatch, UnreachableError, UnreadableError
from granary.warehouse.errors import GranaryError
from granary.warehouse.records import Change

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from granary.readers.files.formats import Excel
    from granary.readers.files.limits import Limits
    from granary.sources.spec import Table

    Row = list[str | dict[str, str] | None]

BATCH_ROWS = 16_384
FIRST_ROWS = 200
READ_BYTES = 1 << 20


def read(stream: IO[bytes], options: Excel, table: Table, limits: Limits, where: str) -> Iterator[SourceBatch]:
    """Yield a sheet's rows as text: numbers as written, dates in ISO 8601. Rows without any value are left out.

    A row with an error (#DIV/0!), a formula that was never computed or a serial number that is not a day is refused,
    unless nobody wants its column. Of several sheets, those without any value are left out.

    Args:
        stream: a real file, which a process can inherit.
        options: the sheets and their header.
        table: the contract, which may ignore columns that it does not name.
        limits: the bytes that it may unpack to, and take in memory.
        where: the file, for errors.

    Raises:
        UnreadableError: the workbook is damaged, too large, or has no such sheet or header.
        GranaryError: the package that reads workbooks is missing.
    """
    if find_spec("python_calamine") is None:
        raise GranaryError("reading a workbook needs a package", where, "pip install 'granary-elt[files]'")
    _weigh(stream, limits, where)
    lines = _lines(stream, options, limits, where)
    others: list[str] = next(lines, [])
    notes = (_unread(others),) if others and options.sheet is None else ()
    is_empty = True
    for name, rows in _by_sheet(lines):
        for source_batch in _sheet(name, rows, options, table, where):
            is_empty = False
            yield replace(source_batch, notes=notes)
    if is_empty:
        raise UnreadableError("no sheet has a value", where, "declare another sheet, or ask the source for the file")


def first_rows(stream: IO[bytes], options: Excel, limits: Limits, where: str) -> tuple[list[str], list[list[str]]]:
    """Return the other sheets, and the first rows of a sheet as text, those without a value too; raises as `read`."""
    _weigh(stream, limits, where)
    with closing(_lines(stream, options, limits, where)) as lines:
        others: list[str] = next(lines, [])
        found = [list(map(_texts, islice(rows, FIRST_ROWS))) for _, rows in islice(_by_sheet(lines), 1)]
    return others, found[0] if found else []


def _by_sheet(lines: Iterator[Any]) -> Iterator[tuple[str, Iterator[Row]]]:
    """Yield each sheet's name and rows, which have to be taken before the next."""
    names = list(islice(lines, 1))

    def rows() -> Iterator[Row]:
        for line in lines:
            if isinstance(line, str):
                names.append(line)
                return
            yield line

    while names:
        mine = rows()
        yield names.pop(), mine
        for _ in mine:
            pass


def _sheet(name: str, rows: Iterator[Row], options: Excel, table: Table, where: str) -> Iterator[SourceBatch]:
    """Yield a sheet's rows; none of one that is one of several and has no value."""
    known = {name: column.type for column in table.columns for name in (column.name, *column.aliases)}
    header_row = options.header_row
    first = list(islice(rows, header_row + MOST_ROWS))
    rows = chain(first, rows)
    if header_row > 1:
        found = row_of_header(list(map(_texts, first)), {name.lower() for name in known})
        header_row = header_row if found is None else found + 1
    header = next(islice(rows, header_row - 1, None), [])
    width = _filled(header)
    place = f"{where}, row {header_row}"
    sheet = f"the sheet {name!r}" if options.has_several else "the sheet"
    if not width:
        has_values = any(_filled(row) for row in chain(first, rows))  # if the process failed, it is heard of before
        if options.has_several and not has_values:
            return
        raise UnreadableError(f"{sheet} has no header", place, "declare its header_row")
    if failed := next((cell for cell in header if isinstance(cell, dict)), None):
        what = f"the header of {sheet}" if options.has_several else "the header"
        raise UnreadableError(f"{what} has {failed['error']}", place, "fix the sheet")
    titles = [str(cell or f"column_{place}").strip() for place, cell in enumerate(header[:width], 1)]
    if options.sheet_column in titles:
        words = f"{sheet} has a column {options.sheet_column!r} of its own"
        raise UnreadableError(words, place, "declare another sheet_column")
    wanted = [table.new_columns != "ignore" or title in known for title in titles]
    marks = {options.sheet_column: name} if options.sheet_column else {}
    cells = f"{name!r}!" if options.has_several else ""
    line, is_empty = header_row + 1, True
    while batch := list(islice(rows, BATCH_ROWS)):
        filled = [(line + place, row) for place, row in enumerate(batch) if any(row)]
        if filled:
            is_empty = False
            source_batch = _source_batch(titles, filled, wanted, known, marks, cells)
            yield replace(source_batch, line=line if len(source_batch.batch) == len(batch) else None)
        line += len(batch)
    if is_empty:
        yield replace(_source_batch(titles, [], wanted, known, marks, cells), line=line)


def _texts(row: Row) -> list[str]:
    return [str(cell["error"] if isinstance(cell, dict) else cell or "") for cell in row]


def _unread(sheets: Sequence[object]) -> Change:
    several = f"sheets {', '.join(map(repr, sheets))} are" if len(sheets) > 1 else f"sheet {sheets[0]!r} is"
    return Change("", "ignored", f"the {several} not read: declare which one is, Excel(sheet=…)")


def _lines(stream: IO[bytes], options: Excel, limits: Limits, where: str) -> Generator[Any, None, None]:
    """Yield the names of the sheets that are not read, then each sheet's name and rows, as the other process does."""
    script = str(Path(__file__).with_name("workbook.py"))
    command = [sys.executable, "-I", script, json.dumps(options.sheet), str(limits.memory)]
    with tempfile.TemporaryFile() as words:
        child = subprocess.Popen(command, stdin=stream, stdout=subprocess.PIPE, stderr=words)
        try:
            assert child.stdout is not None
            yield from map(json.loads, child.stdout)
            code = child.wait()
        finally:
            child.kill()
            child.communicate()
        words.seek(0)
        output = words.read(READ_BYTES).decode("utf-8", "replace").strip().splitlines() or [""]
    if code == REFUSED:
        raise UnreadableError(output[-1], where, "declare another sheet")
    if code in (-signal.SIGKILL, -signal.SIGTERM):
        raise UnreachableError("the process that reads the workbook was ended by this machine", where, "load again")
    if code < 0 or "memory allocation" in output[0] or "MemoryError" in output[-1]:
        raise UnreadableError(f"the sheet takes over {limits.memory:,} bytes of memory", where, "deliver it as CSV")
    if code:
        raise damaged(ValueError(output[-1]), where, "a workbook")


def _source_batch(
    titles: Sequence[str],
    rows: Sequence[tuple[int, Row]],
    wanted: Sequence[bool],
    types: Mapping[str, pa.DataType],
    marks: Mapping[str, str],
    cells: str,
) -> SourceBatch:
    """Return numbered rows as text; cells to the right of the header's last name get a column of their own.

    `marks` are columns with one value, `cells` is what comes before the name of a cell.
    """
    width = max([len(titles), *(_filled(row) for _, row in rows)])
    names = [*titles, *(f"column_{place}" for place in range(len(titles) + 1, width + 1))]
    good: list[list[str | None]] = []
    places: list[tuple[int, int]] = []
    bad: list[tuple[int, Rejected]] = []
    for index, (line, row) in enumerate(rows):
        errors = {at: cell["error"] for at, cell in enumerate(row) if isinstance(cell, dict)}
        failed = [at for at in errors if at >= len(wanted) or wanted[at]]
        texts = [cell.get("value", cell["error"]) if isinstance(cell, dict) else cell for cell in row]
        if failed:
            at = failed[0]
            reason = f"is {errors[at]} in cell {cells}{_letters(at)}{line}"
            bad.append((index, Rejected(names[at], reason, {**dict(zip(names, texts, strict=False)), **marks}, line)))
        else:
            good.append(texts)
            places.append((index, line))
    columns = [pa.array([row[at] if at < len(row) else None for row in good], pa.string()) for at in range(width)]
    columns += [pa.repeat(text, len(good)) for text in marks.values()]
    batch = pa.RecordBatch.from_arrays(columns, names=[*names, *marks])
    batch, misfits = Notation().settled(batch, types, {})
    if misfits:
        bad += [(places[i][0], Rejected(name, why, found, places[i][1])) for i, (name, why, found) in misfits.items()]
        batch = batch.filter(pa.array([index not in misfits for index in range(batch.num_rows)]))
    return SourceBatch(batch, tuple(sorted(bad, key=lambda each: each[0])), text=True)


def _letters(place: int) -> str:
    """Return the name of a column: that of the one at place 27, from 0, is AB."""
    return (_letters(place // 26 - 1) if place > 25 else "") + chr(65 + place % 26)  # noqa: PLR2004 - letters


def _filled(row: Row) -> int:
    """Return the place of the last cell that has a value, 0 if there is none."""
    return max((place for place, cell in enumerate(row, 1) if cell), default=0)


def _weigh(stream: IO[bytes], limits: Limits, where: str) -> None:
    """Unpack a workbook that is a zip archive to nowhere, to learn how large it really is."""
    stream.seek(0)
    if not stream.read(4).startswith(b"PK"):
        return
    seen = 0
    try:
        with zipfile.ZipFile(stream) as archive:
            parts = archive.infolist()
            if len(parts) > limits.members:
                raise UnreadableError(f"the workbook has over {limits.members:,} parts", where, "split it")
            for member in parts:
                with archive.open(member) as part:
                    while block := part.read(READ_BYTES):
                        seen += len(block)
                        if seen > limits.workbook:
                            words = f"the workbook unpacks to over {limits.workbook:,} bytes"
                            raise UnreadableError(words, where, "deliver it as CSV")
    except GranaryError:
        raise
    except DAMAGED as error:
        raise damaged(error, where, "a workbook") from None
