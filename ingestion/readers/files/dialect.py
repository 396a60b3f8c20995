"""How a delimited text is written: found out from its beginning, where it is not declared."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ingestion.readers.files.text import encoding_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from ingestion.readers.files.formats import Csv

DELIMITERS = (",", ";", "\t", "|", "^", "~", "\x01", ":")
SAMPLE_ROWS = 200
VALUE = re.compile(
    r"\s*[-+]?[\d.,]*\d[\d.,]*([eE][-+]?\d+)?\s*%?|\d{1,4}[-/.]\d\d?[-/.]\d{1,4}([ T].*)?|true|false", re.I
)
"""What a name of a column is not: a number, a date, a truth value."""


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
    text = head.decode(encoding, "replace").removeprefix("\ufeff")
    lines = re.split(r"\r\n|\n|\r", text)[options.skip :]
    if len(lines) > 1:
        lines = lines[:-1]  # the last may be cut off
    text = "\n".join(lines)
    quote = options.quote if options.quote is not None else _quote(text, options.delimiter)
    escape = options.escape
    if escape is None:
        escape = "\\" if quote and re.search(rf"\\{quote}[^\n{quote}]*{quote}", text) else ""
    if options.delimiter is not None:
        delimiter, guess = options.delimiter, _guess(text, options.delimiter, quote, escape, names)
    else:
        guesses = {each: _guess(text, each, quote, escape, names) for each in DELIMITERS}
        delimiter = max(guesses, key=lambda each: guesses[each].score)
        guess = guesses[delimiter]
    header = options.header
    if header is None:
        header = not options.columns and _is_header(guess.rows[0] if guess.rows else [], names)
    return replace(options, delimiter=delimiter, quote=quote, escape=escape, encoding=encoding, header=header)


def rows(text: str, delimiter: str, quote: str, escape: str) -> list[list[str]]:
    """Return the first rows of a text, blank lines left out."""
    found = []
    reader = csv.reader(
        text.splitlines(keepends=True)[: SAMPLE_ROWS * 2],
        delimiter=delimiter,
        quotechar=quote or None,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        escapechar=escape or None,
    )
    try:
        for row in reader:
            if row:
                found.append(row)
            if len(found) == SAMPLE_ROWS:
                break
    except csv.Error:  # a NUL, or a field beyond the module's limit: what came before it serves
        pass
    return found


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


def _is_header(cells: list[str], names: Collection[str]) -> bool:
    """Return whether a first row has names: known ones, or different ones that are no numbers and no dates."""
    named = [cell.strip() for cell in cells if cell.strip()]  # a table's index and a trailing comma have no name
    if any(cell.lower() in names for cell in named):
        return True
    return 0 < len(named) == len(set(named)) and not any(VALUE.fullmatch(cell) for cell in named)
