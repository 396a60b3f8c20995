"""Prints a sheet's rows as lines of JSON; run by `excel.py` as a process of its own, with its own limit of memory.

calamine holds a sheet as a dense range: a workbook of 2 kB with one value in its last row and column makes it ask for
500 GB, and Rust aborts the process. Here, that ends nothing but this process. It imports nothing of Granary's.
"""

from __future__ import annotations

import json
import resource
import sys
from contextlib import suppress
from datetime import date, datetime, time
from typing import Any

REFUSED = 3
"""Exit code: the workbook lacks what was asked for, and stderr says what."""


def text(cell: Any) -> str | None:
    """Return a cell as text, None if it is empty. Every number of a workbook is a float; whole ones look it."""
    if cell is None or cell == "":
        return None
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < 2**53 else repr(cell)
    if isinstance(cell, datetime):
        return cell.isoformat(sep=" ")
    return cell.isoformat() if isinstance(cell, (date, time)) else str(cell)


def main(sheet: str | int, memory: int) -> int:
    """Read a workbook from standard input and print a sheet, a JSON array of text and null a row."""
    with suppress(ValueError, OSError):  # some versions of macOS have no such limit
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    from python_calamine import CalamineWorkbook  # noqa: PLC0415 - within the limit

    with open(0, "rb") as file:
        file.seek(0)
        book = CalamineWorkbook.from_filelike(file)
    names = book.sheet_names
    if sheet not in (names if isinstance(sheet, str) else range(len(names))):
        print(f"the workbook has no sheet {sheet!r}, only {', '.join(names)}", file=sys.stderr)
        return REFUSED
    name = sheet if isinstance(sheet, str) else names[sheet]
    for row in book.get_sheet_by_name(name).iter_rows():
        print(json.dumps([text(cell) for cell in row]))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1]), int(sys.argv[2])))
