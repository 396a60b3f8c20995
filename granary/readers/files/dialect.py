"""How a delimited text is written: found out from its beginning, where it is not declared."""

from __future__ import annotations

import csv
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from granary.readers.files.text import encoding_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from granary.readers.files.formats import Csv

DELIMITERS = (",", ";", "\t", "|", "^", "~", "\x01", ":")
SAMPLE_ROWS = 200
NUMBER = re.compile(r"[-+(]?\s?[$€£¥]?\s?[-+]?[\d.,]*\d[\d.,]*([eE][-+]?\d+)?\s*[%$€£¥)]?")
TIME = re.compile(r"\d{1,4}[-/.]\d\d?[-/.]\d{1,4}([ T].*)?|\d\d?:\d\d(:\d\d)?.*")
TRUTH = re.compile(r"true|false", re.I)
PERIOD = re.compile(r"(19|20)\d\d([-/]?(0[1-9]|1[0-2]|Q[1-4]))?")
"""What a header may call a column that is a number: a year, a month, a quarter."""
NO_VALUE = frozenset(("", "na", "n/a", "nan", "null", "none", "-", "\\n"))
"""Cells that say nothing of what their column is, in lower case."""
COUNTED = 3
MOSTLY = 0.9
"""The share of a column's values that say what it is."""


@dataclass(frozen=True)
class _Guess:
    rows: list[list[str]]
    score: float


def detect(head: bytes, options: Csv, names: Collection[str] = ()) -> Csv:
    """Return the options with nothing left to detect.

    Args:
        head: the first bytes of the text, in its own encoding.
        options: what is declared.
        names: names that its header may have, in lower case; empty if nobody knows.

    Returns:
        Options whose delimiter, quote, escape, encoding and header are all set.
    """
    encoding = encoding_of(head, options.encoding)
    text = beginning(head, encoding)
    lines = re.split(r"\r\n|\n|\r", text)[options.skip :]
    if len(lines) > 1:
        lines = lines[:-1]  # the last may be cut off
    text = "\n".join(lines)
    quote = options.quote if options.quote is not None else _quote(text, options.delimiter)
    delimiters = DELIMITERS if options.delimiter is None else (options.delimiter,)
    doubtful = options.escape is None and quote and f"\\{quote}" in text
    escapes = ["", "\\"] if doubtful else [options.escape or ""]
    found = []
    for each in escapes:
        guesses = {one: _guess(text, one, quote, each, names) for one in delimiters}
        best = max(guesses, key=lambda one: guesses[one].score)
        found.append((_misquoted(text, best, quote, each) if len(escapes) > 1 else 0, each, best, guesses[best]))
    # RFC 4180 knows no escape: where a text can be read so, a backslash belongs to its value. `min` takes the first.
    _, escape, delimiter, guess = min(found, key=lambda one: one[0])
    header = options.header
    if header is None:
        header = not options.columns and has_header(guess.rows, names)
    return replace(options, delimiter=delimiter, quote=quote, escape=escape, encoding=encoding, header=header)


def beginning(head: bytes, encoding: str | None) -> str:
    """Return the first bytes of a text, in its encoding, as text; a byte order mark is none of it."""
    return head.decode(str(encoding), "replace").removeprefix("\ufeff")


def rows(text: str, delimiter: str, quote: str, escape: str) -> list[list[str]]:
    """Return the first rows of a text, blank lines left out."""
    return [row for _, row in islice(numbered_rows(text, delimiter, quote, escape), SAMPLE_ROWS)]


def numbered_rows(text: str, delimiter: str, quote: str, escape: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the first rows of a text, blank lines left out, each with the number of lines before it."""
    reader = csv.reader(
        # By hand: `splitlines` also ends lines at U+2028 and the like, which belong to their values.
        [f"{line}\n" for line in re.split(r"\r\n|\n|\r", text, maxsplit=SAMPLE_ROWS * 2)[: SAMPLE_ROWS * 2]],
        delimiter=delimiter,
        quotechar=quote or None,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        escapechar=escape or None,
    )
    before = 0
    with suppress(csv.Error):  # a NUL, or a field beyond the module's limit: what came before it serves
        for row in reader:
            if row:
                yield before, row
            before = reader.line_num


def _guess(text: str, delimiter: str, quote: str, escape: str, names: Collection[str]) -> _Guess:
    """Rate a delimiter: rows of one length, many columns, and known names in the first row speak for it."""
    found = rows(text, delimiter, quote, escape)
    if not found:
        return _Guess(found, 0)
    width, times = Counter(map(len, found)).most_common(1)[0]
    known = sum(cell.strip().lower() in names for cell in found[0])
    if width == 1:
        return _Guess(found, known)
    return _Guess(found, known * 100 + 10 * times / len(found) + min(width, 50) / 50)


def _quote(text: str, delimiter: str | None) -> str:
    """Return the character that encloses values: a double quote, unless only single ones do."""
    near = re.escape(delimiter) if delimiter else "[,;\t|^~]"
    enclosed = {mark: len(re.findall(rf"(?:^|{near}){mark}[^\n]*?{mark}(?={near}|$)", text, re.M)) for mark in "\"'"}
    return "'" if enclosed["'"] > 1 and not enclosed['"'] else '"'


def _misquoted(text: str, delimiter: str, quote: str, escape: str) -> int:
    """Return how many quoted values do not end at a delimiter or a line's end, or not at all, if a text is read so."""
    mark, end, escaped = re.escape(quote), re.escape(delimiter), re.escape(escape)
    inner = rf"[^{mark}{escaped}]*"
    pairs = rf"{mark}{mark}|{escaped}[\s\S]" if escape else rf"{mark}{mark}"
    quoted = rf"{mark}{inner}(?:(?:{pairs}){inner})*{mark}(?P<rest>[^{end}\r\n]*)"
    field = re.compile(rf"(?:{quoted}|(?P<open>{mark})?[^{end}\r\n]*)(?:{end}|\r\n?|\n|$)")
    return sum(bool(found["rest"] or found["open"]) for found in field.finditer(text))


def has_header(found: list[list[str]], names: Collection[str] = ()) -> bool:
    """Return whether a first row has names: known ones, or what its columns' values show to be names.

    A word over numbers or dates is one; so is a year over what is not a year, or 1, 2, 3 over what does not count on.
    Another number or date is not.
    Where all is text, words that come again further down in their own column are values; otherwise they are names.
    """
    first = [cell.strip() for cell in found[0]] if found else []
    if not any(first):
        return False
    if any(cell.lower() in names for cell in first if cell):
        return True
    others = [row for row in found[1:] if row != found[0]]
    columns = [[row[place].strip() for row in others if place < len(row)] for place in range(len(first))]
    verdicts = [
        _names(cell, [value for value in values if _kind(value)]) for cell, values in zip(first, columns, strict=True)
    ]
    if "word over values" in verdicts:
        return True
    numbers = [place for place, cell in enumerate(first) if _kind(cell) == "number"]
    if _counts(first, numbers) and sum(_counts(row, numbers) for row in others) < len(others) / 2:
        verdicts = ["" if place in numbers else verdict for place, verdict in enumerate(verdicts)]
    return "value" not in verdicts


def _counts(row: list[str], places: list[int]) -> bool:
    """Return whether cells count on by one, three of them at least: the months 1 to 12 as names of columns."""
    cells = [row[place].strip() for place in places if place < len(row)]
    if len(cells) < COUNTED or not all(cell.isascii() and cell.isdigit() for cell in cells):
        return False
    return [int(cell) for cell in cells] == list(range(int(cells[0]), int(cells[0]) + len(cells)))


def _names(cell: str, values: list[str]) -> str:
    """Return what a cell of a first row shows, compared with the values below it; "" if nothing."""
    kind = _kind(cell)
    if not kind:
        return ""
    if kind == "text":
        typed = sum(_kind(value) != "text" for value in values)
        if typed and typed >= MOSTLY * len(values):
            return "word over values"
        return "value" if cell in values else ""
    period = PERIOD.fullmatch(cell) and values and not any(PERIOD.fullmatch(value) for value in values)
    return "" if period else "value"


def _kind(cell: str) -> str:
    """Return what a cell could be: number, time, truth or text; "" if it is empty or stands for no value."""
    if cell.lower() in NO_VALUE:
        return ""
    kinds = {"number": NUMBER, "time": TIME, "truth": TRUTH}
    return next((name for name, pattern in kinds.items() if pattern.fullmatch(cell)), "text")
