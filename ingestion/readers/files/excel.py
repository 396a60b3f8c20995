"""Workbooks: the one format that is held in memory, so a process of its own does that, within limits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pyarrow as pa

from ingestion.readers.files.unpack import DAMAGED, damaged
from ingestion.readers.files.workbook import REFUSED
from ingestion.spec import Chunk, UnreachableError, UnreadableError
from warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ingestion.readers.files.formats import Excel
    from ingestion.readers.files.limits import Limits

    Row = list[str | None]

BATCH_ROWS = 16_384
READ_BYTES = 1 << 20


def read(stream: IO[bytes], options: Excel, limits: Limits, where: str) -> Iterator[Chunk]:
    """Yield a sheet's rows as text: numbers as written, dates in ISO 8601. Rows without any value are left out.

    Args:
        stream: a real file, which a process can inherit.
        options: the sheet and its header.
        limits: the bytes that it may unpack to, and take in memory.
        where: the file, for errors.

    Raises:
        UnreadableError: the workbook is damaged, too large, or has no such sheet or header.
        GranaryError: the package that reads workbooks is missing.
    """
    if find_spec("python_calamine") is None:
        raise GranaryError("reading a workbook needs a package", where, "pip install 'granary[files]'")
    _weigh(stream, limits, where)
    rows = _rows(stream, options, limits, where)
    header = next(islice(rows, options.header_row - 1, None), [])
    width = _filled(header)
    if not width:
        for _ in rows:
            pass  # if the process failed, it is heard of before the lack of a header
        raise UnreadableError("the sheet has no header", f"{where}, row {options.header_row}", "declare its header_row")
    titles = [(cell or f"column_{place}").strip() for place, cell in enumerate(header[:width], 1)]
    line, empty = options.header_row + 1, True
    while batch := list(islice(rows, BATCH_ROWS)):
        filled = [row for row in batch if any(row)]
        if filled:
            empty = False
            yield _chunk(titles, filled, line if len(filled) == len(batch) else None)
        line += len(batch)
    if empty:
        yield _chunk(titles, [], line)


def _rows(stream: IO[bytes], options: Excel, limits: Limits, where: str) -> Iterator[Row]:
    """Yield every row of the sheet, from its first on, as the other process reads it."""
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
        told = words.read(READ_BYTES).decode("utf-8", "replace").strip().splitlines() or [""]
    if code == REFUSED:
        raise UnreadableError(told[-1], where, "declare another sheet")
    if code in (-signal.SIGKILL, -signal.SIGTERM):
        raise UnreachableError("the process that reads the workbook was ended by this machine", where, "load again")
    if code < 0 or "memory allocation" in told[0] or "MemoryError" in told[-1]:
        raise UnreadableError(f"the sheet takes over {limits.memory:,} bytes of memory", where, "deliver it as CSV")
    if code:
        raise damaged(ValueError(told[-1]), where, "a workbook")


def _chunk(titles: Sequence[str], rows: Sequence[Row], line: int | None) -> Chunk:
    """Return rows as text; cells to the right of the header's last name get a column of their own."""
    width = max([len(titles), *map(_filled, rows)])
    names = [*titles, *(f"column_{place}" for place in range(len(titles) + 1, width + 1))]
    columns = [pa.array([row[at] if at < len(row) else None for row in rows], pa.string()) for at in range(width)]
    return Chunk(pa.RecordBatch.from_arrays(columns, names=names), text=True, line=line)


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
