"""Workbooks, read by calamine. They are the one format that is held in memory, so their size is limited."""

from __future__ import annotations

import zipfile
from datetime import date, datetime, time, timedelta
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from ingestion.readers.files.unpack import DAMAGED, damaged
from ingestion.spec import Chunk, UnreadableError
from warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ingestion.readers.files.formats import Excel
    from ingestion.readers.files.limits import Limits

BATCH_ROWS = 16_384
READ_BYTES = 1 << 20


def read(stream: IO[bytes], options: Excel, limits: Limits, where: str) -> Iterator[Chunk]:
    """Yield a sheet's rows as text: numbers as written, dates in ISO 8601. Rows without any value are left out.

    Raises:
        UnreadableError: the workbook is damaged, too large, or has no such sheet or header.
        GranaryError: the package that reads workbooks is missing.
    """
    try:
        from python_calamine import CalamineWorkbook  # noqa: PLC0415 - an extra that only workbooks need
    except ImportError:
        raise GranaryError("reading a workbook needs a package", where, "pip install 'granary[files]'") from None
    _weigh(stream, limits, where)
    try:
        book = CalamineWorkbook.from_filelike(stream)
        names = book.sheet_names
        if options.sheet not in (names if isinstance(options.sheet, str) else range(len(names))):
            raise UnreadableError(f"the workbook has no sheet {options.sheet!r}", where, f"it has {', '.join(names)}")
        name = options.sheet if isinstance(options.sheet, str) else names[options.sheet]
        # Empty rows above the first value are not skipped, so that rows are counted as a person sees them.
        rows = iter(book.get_sheet_by_name(name).to_python(skip_empty_area=False))
    except GranaryError:
        raise
    except Exception as error:
        raise damaged(error, where, "a workbook") from None
    header = next(islice(rows, options.header_row - 1, None), [])
    width = max((place for place, cell in enumerate(header, 1) if _text(cell)), default=0)
    if not width:
        raise UnreadableError("the sheet has no header", f"{where}, row {options.header_row}", "declare its header_row")
    titles = [(_text(cell) or f"column_{place}").strip() for place, cell in enumerate(header[:width], 1)]
    line, empty = options.header_row + 1, True
    while batch := list(islice(rows, BATCH_ROWS)):
        filled = [row for row in batch if any(_text(cell) for cell in row)]
        if filled:
            empty = False
            yield _chunk(titles, filled, line if len(filled) == len(batch) else None)
        line += len(batch)
    if empty:
        yield _chunk(titles, [], line)


def _chunk(titles: Sequence[str], rows: Sequence[Sequence[Any]], line: int | None) -> Chunk:
    """Return rows as text; cells to the right of the header's last name get a column of their own."""
    width = max([len(titles), *(_filled(row) for row in rows)])
    names = [*titles, *(f"column_{place}" for place in range(len(titles) + 1, width + 1))]
    columns = [
        pa.array([_text(row[at]) if at < len(row) else None for row in rows], pa.string()) for at in range(width)
    ]
    return Chunk(pa.RecordBatch.from_arrays(columns, names=names), text=True, line=line)


def _filled(row: Sequence[Any]) -> int:
    return max((place for place, cell in enumerate(row, 1) if _text(cell)), default=0)


def _text(cell: Any) -> str | None:  # noqa: PLR0911 - one kind of cell, one line
    """Return a cell as text, None if it is empty. Every number of a workbook is a float; whole ones look it."""
    if cell is None or cell == "":
        return None
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 2**53 else repr(cell)
    if isinstance(cell, datetime):
        return cell.isoformat(sep=" ")
    if isinstance(cell, (date, time)):
        return cell.isoformat()
    if isinstance(cell, timedelta):
        return str(cell)
    return str(cell).replace("\0", "")


def _weigh(stream: IO[bytes], limits: Limits, where: str) -> None:
    """Unpack a workbook that is a zip archive to nowhere, to learn how large it really is."""
    stream.seek(0)
    if stream.read(4).startswith(b"PK"):
        stream.seek(0)
        seen = 0
        try:
            with zipfile.ZipFile(stream) as archive:
                if len(archive.infolist()) > limits.members:
                    raise UnreadableError(f"the workbook has over {limits.members:,} parts", where, "split it")
                for member in archive.infolist():
                    with archive.open(member) as part:
                        while block := part.read(READ_BYTES):
                            seen += len(block)
                            if seen > limits.workbook:
                                words = f"the workbook unpacks to over {limits.workbook:,} bytes"
                                raise UnreadableError(words, where, "deliver it as CSV")
        except DAMAGED as error:
            if isinstance(error, GranaryError):
                raise
            raise damaged(error, where, "a workbook") from None
    stream.seek(0)
