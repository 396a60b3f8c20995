"""Rows above a table's header: the title of a report, when it was made, for whom.

How many there are is found out once, when a source is added, and declared. Each load looks for the names of its
contract all the same, since a report may come with a line more or less: to trust the number would lose rows.
"""

from __future__ import annotations

from itertools import islice
from statistics import median
from typing import TYPE_CHECKING

from granary.readers.files.dialect import has_header, numbered_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from granary.readers.files.formats import Csv

MOST_ROWS = 20
"""Rows of a title; a table that begins further down is for a person to declare."""


def lines_above(text: str, options: Csv) -> int:
    """Return how many lines of a delimited text come before its header; 0 if the first row is one, or none is.

    Args:
        text: the beginning of the text.
        options: with its delimiter, quote and escape.
    """
    found = list(islice(numbered_rows(text, str(options.delimiter), str(options.quote), str(options.escape)), 200))
    above = rows_above([row for _, row in found])
    return found[above][0] if above else 0


def line_of_header(text: str, options: Csv, names: Collection[str]) -> int:
    """Return how many lines come before the header that has names of the contract; those declared if none has.

    Args:
        text: the beginning of the text.
        options: with its delimiter, quote and escape, and the lines declared.
        names: the contract's, in lower case.
    """
    numbered = numbered_rows(text, str(options.delimiter), str(options.quote), str(options.escape))
    found = list(islice(numbered, options.skip + MOST_ROWS))
    place = row_of_header([row for _, row in found], names)
    return options.skip if place is None else found[place][0]


def row_of_header(rows: Sequence[Sequence[str]], names: Collection[str]) -> int | None:
    """Return the place of the first row most of whose values are names of the contract, in lower case; None without."""
    for place, row in enumerate(rows):
        filled = [text for cell in row if (text := cell.strip().lower())]
        if 2 * sum(text in names for text in filled) > len(filled):
            return place
    return None


def rows_above(rows: Sequence[Sequence[str]]) -> int:
    """Return how many of a table's first rows come before its header; 0 if the first row is one, or none is.

    The header is the first row with as many values as rows usually have. Each row above it has less than half of them,
    or half below a title of one value, or begins with a word and a colon: a few columns with names are no title.
    """
    filled = [sum(bool(cell.strip()) for cell in row) for row in rows]
    usual = median([number for number in filled if 2 * number > max(filled)] or [0])
    full = [number >= usual and not _labelled(row) for row, number in zip(rows, filled, strict=True)]
    above = full.index(True) if any(full) else 0
    if not 0 < above <= MOST_ROWS:
        return 0
    most = filled[above] // 2 if filled[0] <= 1 else (filled[above] - 1) // 2
    if any(number > most and not _labelled(row) for row, number in zip(rows[:above], filled[:above], strict=True)):
        return 0
    below = [list(row) for row, number in zip(rows[above:], filled[above:], strict=True) if number]
    return above if len(below) > 1 and has_header(below) else 0


def _labelled(row: Sequence[str]) -> bool:
    """Return whether a row is a word and what it stands for, such as "Account: 123"."""
    first = next((cell.strip() for cell in row if cell.strip()), "")
    return first.endswith(":")
