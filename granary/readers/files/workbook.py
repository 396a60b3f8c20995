"""Prints rows of sheets as lines of JSON; run by `excel.py` as a process of its own, with its own limit of memory.

calamine holds a sheet as a dense range: a workbook of 2 kB with one value in its last row and column makes it ask for
500 GB, and Rust aborts the process. Here, that ends nothing but this process. It imports nothing of Granary's.

calamine makes nothing of a cell with an error (#DIV/0!) and of a formula that was never computed, a float of a number
of 20 digits, and some day or time of a serial number that is none. So the sheet is looked at a second time for those.
Formats: ECMA-376 (.xlsx), [MS-XLSB], [MS-XLS]
in [MS-CFB], and OpenDocument 1.3, part 3 (.ods).
"""

# ruff: noqa: PLR2004 - the numbers are those of the formats

from __future__ import annotations

import json
import re
import resource
import struct
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from fnmatch import fnmatchcase
from functools import partial
from typing import Any
from xml.parsers import expat

REFUSED = 3
"""Exit code: the workbook lacks what was asked for, and stderr says what."""

Cells = dict[tuple[int, int], "str | dict[str, str]"]
"""By row and column, from 0: a cell's text, or {"error": why it has none}."""

ERRORS = {0: "#NULL!", 7: "#DIV/0!", 15: "#VALUE!", 23: "#REF!", 29: "#NAME?", 36: "#NUM!", 42: "#N/A"}
NEVER = "a formula that was never computed"
DOUBTFUL = re.compile(rb"""\st=["']e["']|<(\w+:)?f[\s/>]|<(\w+:)?v>-?\d{16}""")
"""What a part of a .xlsx holds if it has a cell to look at again."""
BLOCK = 1 << 20
KNOWN = 2**53
"""Whole numbers up to here are floats without loss."""


def text(cell: Any) -> str | None:
    """Return a cell as text, None if it is empty. Every number of a workbook is a float; whole ones look it."""
    if cell is None or cell == "":
        return None
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < KNOWN else repr(cell)
    if isinstance(cell, datetime):
        return cell.isoformat(sep=" ")
    if isinstance(cell, timedelta):
        minutes, seconds = divmod(cell.days * 86400 + cell.seconds, 60)
        fraction = f".{cell.microseconds:06}".rstrip("0") if cell.microseconds else ""
        return f"PT{minutes // 60}H{minutes % 60}M{seconds}{fraction}S"
    return cell.isoformat() if isinstance(cell, (date, time)) else str(cell)


def no_day(number: float) -> dict[str, str] | None:
    """Return the cell of a serial number that is not a day (negative, Lotus's 29 February 1900) and no time (24:00)."""
    if number < 0 or 60 <= number < 61 or (number < 1 and round(number * 86_400_000) == 86_400_000):
        return {"error": "a serial number that is not a day or time", "value": str(text(number))}
    return None


def parts_of(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return a package's parts by their names, which differ in case between programs."""
    return {info.filename.replace("\\", "/").lower(): info for info in archive.infolist()}


def elements(stream: Any, start: Any, end: Any, data: Any) -> None:
    """Parse XML, calling with names that have no prefix."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = lambda name, attributes: start(name.rpartition(":")[2], attributes)
    parser.EndElementHandler = lambda name: end(name.rpartition(":")[2])
    parser.CharacterDataHandler = data
    parser.ParseFile(stream)


def target(archive: zipfile.ZipFile, book: str, relation: str) -> zipfile.ZipInfo:
    """Return the part of a sheet, by its relation to the workbook."""
    found: dict[str, str] = {}

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "Relationship":
            found[attributes["Id"]] = attributes["Target"]

    parts = parts_of(archive)
    with archive.open(parts[f"xl/_rels/{book}.rels"]) as stream:
        elements(stream, start, lambda _: None, None)
    path = found[relation].lower()
    return parts[path.lstrip("/") if path.startswith("/") else f"xl/{path}"]


def xlsx(archive: zipfile.ZipFile, sheet: str, serials: bool) -> Cells:
    """Look at the cells of a sheet in XML."""
    relations: dict[str, str] = {}

    def sheets(name: str, attributes: dict[str, str]) -> None:
        if name == "sheet":
            relations[attributes["name"]] = next(v for k, v in attributes.items() if k.endswith(":id"))

    with archive.open(parts_of(archive)["xl/workbook.xml"]) as stream:
        elements(stream, sheets, lambda _: None, None)
    part = target(archive, "workbook.xml", relations[sheet])
    with archive.open(part) as stream:
        if not serials and not doubtful(stream):
            return {}
    found: Cells = {}
    row, column, kind, formula, inside = -1, -1, "", False, False
    value: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal row, column, kind, formula, inside
        if name == "row":
            row, column = int(attributes.get("r", row + 2)) - 1, -1
        elif name == "c":
            place = re.match(r"[A-Za-z]*", attributes.get("r", ""))
            column = place_of(place[0]) if place and place[0] else column + 1
            kind, formula = attributes.get("t", "n"), False
            value.clear()
        elif name == "f":
            formula = True
        inside = name == "v"

    def data(characters: str) -> None:
        if inside:
            value.append(characters)

    def end(name: str) -> None:
        nonlocal inside
        inside = False
        if name == "c":
            said = "".join(value).strip()
            if kind == "e":
                found[row, column] = {"error": said or "#N/A"}
            elif formula and not said and kind in ("n", "b", "d"):
                found[row, column] = {"error": NEVER}
            elif kind == "n" and re.fullmatch(r"-?\d{16,}", said) and int(float(said)) != int(said):
                found[row, column] = said
            elif serials and kind == "n" and said and (cell := no_day(float(said))):
                found[row, column] = cell

    with archive.open(part) as stream:
        elements(stream, start, end, data)
    return found


def place_of(letters: str) -> int:
    """Return a column's place, from 0: that of AB is 27."""
    place = 0
    for letter in letters.upper():
        place = place * 26 + ord(letter) - 64
    return place - 1


def doubtful(stream: Any) -> bool:
    """Return whether a sheet has a cell to look at again."""
    rest = b""
    while block := stream.read(BLOCK):
        if DOUBTFUL.search(rest + block):
            return True
        rest = block[-64:]
    return False


def records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the records of a part of .xlsb: kind and content; both numbers before it have 7 bits a byte."""
    at = 0
    while at < len(data):
        numbers = []
        for most in (2, 4):
            number = 0
            for shift in range(0, 7 * most, 7):
                byte = data[at]
                at += 1
                number |= (byte & 0x7F) << shift
                if byte < 0x80:
                    break
            numbers.append(number)
        kind, size = numbers
        yield kind, data[at : at + size]
        at += size


def rk(number: int) -> float:
    """Return the number of an RkNumber: 30 bits, which are a whole number or the upper ones of a float."""
    whole = number & 2
    value = float(number >> 2) if whole else struct.unpack("<d", struct.pack("<Q", (number & 0xFFFFFFFC) << 32))[0]
    return value / 100 if number & 1 else value


def xlsb(archive: zipfile.ZipFile, sheet: str, serials: bool) -> Cells:
    """Look at the cells of a sheet in binary parts."""
    relation = ""
    for kind, body in records(archive.read(parts_of(archive)["xl/workbook.bin"])):
        if kind == 156:  # BrtBundleSh: state, id, then relation and name, each with its length
            size = struct.unpack_from("<I", body, 8)[0]
            name = body[12 + 2 * size + 4 :].decode("utf-16-le")
            if name == sheet:
                relation = body[12 : 12 + 2 * size].decode("utf-16-le")
    found: Cells = {}
    row = 0
    for kind, body in records(archive.read(target(archive, "workbook.bin", relation))):
        if kind == 0:  # BrtRowHdr
            row = struct.unpack_from("<I", body)[0]
        elif kind in (3, 11):  # BrtCellError, BrtFmlaError
            found[row, struct.unpack_from("<I", body)[0]] = {"error": ERRORS.get(body[8], "an error")}
        elif serials and kind in (2, 5, 9):  # BrtCellRk, BrtCellReal, BrtFmlaNum
            number = rk(struct.unpack_from("<i", body, 8)[0]) if kind == 2 else struct.unpack_from("<d", body, 8)[0]
            if cell := no_day(number):
                found[row, struct.unpack_from("<I", body)[0]] = cell
    return found


def ods(archive: zipfile.ZipFile, sheet: str) -> Cells:
    """Look at the cells of a table of OpenDocument: an error has its text, but no value."""
    found: Cells = {}
    row, column, mine = 0, 0, False
    line: dict[str, str] = {}
    cell: dict[str, str] = {}
    words: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal row, column, mine, line, cell
        if name == "table":
            mine, row = attributes.get("table:name") == sheet, 0
        elif name == "table-row":
            line, column = attributes, 0
        elif name in ("table-cell", "covered-table-cell"):
            cell = attributes
            words.clear()

    def end(name: str) -> None:
        nonlocal row, column, mine
        rows = int(line.get("table:number-rows-repeated", 1))
        if name == "table":
            mine = False
        elif name == "table-row":
            row += rows
        elif name in ("table-cell", "covered-table-cell"):
            columns, said = int(cell.get("table:number-columns-repeated", 1)), "".join(words).strip()
            failed = cell.get("calcext:value-type") == "error" or re.match(r"#[A-Z/0]+[!?]|#N/A|Err:\d", said)
            if mine and "table:formula" in cell and (failed or not (cell.get("office:value-type") or said)):
                each = {"error": said or NEVER}
                found.update({(row + r, column + c): each for r in range(rows) for c in range(columns)})
            column += columns

    with archive.open("content.xml") as stream:
        elements(stream, start, end, words.append)
    return found


def xls(data: bytes, place: int, serials: bool) -> Cells:
    """Look at the cells of the sheet at a place, in the records of the stream "Workbook"."""
    stream = compound(data)
    begins = []
    for kind, body in biff(stream, 0):
        if kind == 0x85:  # BOUNDSHEET
            begins.append(struct.unpack_from("<I", body)[0])
        elif kind == 0x0A:  # EOF
            break
    found: Cells = {}
    depth = 0
    for kind, body in biff(stream, begins[place]):
        depth += (kind == 0x809) - (kind == 0x0A)  # BOF, EOF: a chart in the sheet has its own
        if not depth:
            break
        if kind == 0x205 and body[7]:  # BOOLERR
            found[struct.unpack_from("<HH", body)] = {"error": ERRORS.get(body[6], "an error")}
        elif kind == 0x06 and body[12:14] == b"\xff\xff" and body[6] == 2:  # FORMULA
            found[struct.unpack_from("<HH", body)] = {"error": ERRORS.get(body[8], "an error")}
        elif serials:
            found |= {at: cell for at, number in floats(kind, body) if (cell := no_day(number))}
    return found


def floats(kind: int, body: bytes) -> Iterator[tuple[tuple[int, int], float]]:
    """Yield the numbers of a record of .xls, with their places."""
    if kind == 0x203 or (kind == 0x06 and body[12:14] != b"\xff\xff"):  # NUMBER, FORMULA
        yield struct.unpack_from("<HH", body), struct.unpack_from("<d", body, 6)[0]
    elif kind == 0x27E:  # RK
        yield struct.unpack_from("<HH", body), rk(struct.unpack_from("<i", body, 6)[0])
    elif kind == 0xBD:  # MULRK
        row, first = struct.unpack_from("<HH", body)
        for at in range((len(body) - 6) // 6):
            yield (row, first + at), rk(struct.unpack_from("<i", body, 6 + 6 * at)[0])


def biff(stream: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Yield the records of .xls from a place on: kind and content."""
    while at + 4 <= len(stream):
        kind, size = struct.unpack_from("<HH", stream, at)
        yield kind, stream[at + 4 : at + 4 + size]
        at += 4 + size


def compound(data: bytes) -> bytes:
    """Return the stream "Workbook" of a compound file: sectors in chains, short streams in chains of one stream."""
    shift, short = struct.unpack_from("<HH", data, 30)
    size = 1 << shift
    first, limit, mini, _, more = struct.unpack_from("<I4xIIII", data, 48)

    def sector(number: int) -> bytes:
        return data[(number + 1) * size : (number + 2) * size]

    def numbers(block: bytes) -> list[int]:
        return list(struct.unpack(f"<{len(block) // 4}I", block))

    tables = numbers(data[76:512])
    while more < 0xFFFFFFFA:
        *few, more = numbers(sector(more))
        tables += few
    fat = [each for table in tables if table < 0xFFFFFFFA for each in numbers(sector(table))]

    def chain(at: int, nexts: list[int]) -> Iterator[int]:
        for _ in range(len(nexts)):
            if at >= 0xFFFFFFFA:
                return
            yield at
            at = nexts[at]

    folder = b"".join(map(sector, chain(first, fat)))
    entries: dict[str, tuple[int, int]] = {}
    for at in range(0, len(folder), 128):
        length = struct.unpack_from("<H", folder, at + 64)[0]
        name = folder[at : at + max(length - 2, 0)].decode("utf-16-le")
        entries.setdefault(name.lower(), struct.unpack_from("<II", folder, at + 116))
    start, length = entries.get("workbook") or entries["book"]
    if length >= limit:
        return b"".join(map(sector, chain(start, fat)))[:length]
    root = b"".join(map(sector, chain(entries["root entry"][0], fat)))
    minis = [each for number in chain(mini, fat) for each in numbers(sector(number))]
    few = 1 << short
    return b"".join(root[each * few : (each + 1) * few] for each in chain(start, minis))[:length]


def overlooked(data: Any, sheet: str, place: int, serials: bool) -> Cells:
    """Return the cells that calamine does not tell as they are, and if asked the numbers that are no day or time."""
    if not zipfile.is_zipfile(data):
        data.seek(0)
        return xls(data.read(), place, serials)
    with zipfile.ZipFile(data) as archive:
        parts = parts_of(archive)
        if "content.xml" in parts:
            return ods(archive, sheet)
        return (xlsb if "xl/workbook.bin" in parts else xlsx)(archive, sheet, serials)


def lines(rows: Iterable[list[Any]], look: Callable[[bool], Cells]) -> Iterator[list[Any]]:
    """Yield the rows as text, with what calamine does not tell in its place, which may lie outside of what it has.

    Serial numbers are looked at once calamine made a time of one, or a day of 1900.
    """
    marked: dict[int, dict[int, Any]] = {}
    for (at, column), cell in look(False).items():
        marked.setdefault(at, {})[column] = cell
    again: Cells | None = None
    number = -1
    for number, row in enumerate(rows):
        mine = marked.pop(number, {})
        for place, cell in enumerate(row):
            if isinstance(cell, time) or (isinstance(cell, date) and cell.year == 1900):
                again = look(True) if again is None else again
                mine |= {place: again[number, place]} if (number, place) in again else {}
        width = max([len(row), *(column + 1 for column in mine)])
        yield [mine.get(place) or (text(row[place]) if place < len(row) else None) for place in range(width)]
    for later in range(number + 1, max(marked, default=-1) + 1):
        mine = marked.get(later, {})
        yield [mine.get(at) for at in range(max(mine, default=-1) + 1)]


def main(sheet: str | int | None, memory: int) -> int:
    """Read a workbook from standard input; print the sheets that are not read, then each sheet: its name, its rows."""
    with suppress(ValueError, OSError):  # some versions of macOS have no such limit
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    from python_calamine import CalamineWorkbook, SheetTypeEnum  # noqa: PLC0415 - within the limit

    with open(0, "rb") as file:
        file.seek(0)
        book = CalamineWorkbook.from_filelike(file)
        names = book.sheet_names
        tables = [each.name for each in book.sheets_metadata if each.typ == SheetTypeEnum.WorkSheet]
        if isinstance(sheet, str):
            several = [name for name in tables if "*" in sheet and fnmatchcase(name, sheet)]
            chosen = [sheet] if sheet in names else several
        else:
            chosen = names[sheet or 0 :][:1]
        if not chosen:
            print(f"the workbook has no sheet {sheet!r}, only {', '.join(names)}", file=sys.stderr)
            return REFUSED
        print(json.dumps([name for name in tables if name not in chosen]))
        for name in chosen:
            print(json.dumps(name))
            rows = book.get_sheet_by_name(name).iter_rows()
            for row in lines(rows, partial(overlooked, file, name, names.index(name))):
                print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1]), int(sys.argv[2])))
