"""The one way in which tables are printed: as a table where it fits, else a paragraph per row; nothing is ever cut."""

from __future__ import annotations

from functools import partial
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

EDGES = 3
"""Characters that a column takes beside its text: a line and a space on either side."""
_wrapped = partial(wrap, break_long_words=False, break_on_hyphens=False)


def print_table(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; numbers stand to the right with thousands separators, columns that say nothing stay away.

    Where the columns do not fit beside each other, each row becomes a paragraph: its first cell, and below it the
    others with their names. What is in the cells is printed as it is, markup included.
    """
    said = [i for i in range(len(columns)) if i == 0 or not rows or any(row[i] not in (0, "", None) for row in rows)]
    names, values = [columns[i] for i in said], [[row[i] for i in said] for row in rows]
    cells = [[shown(value) for value in row] for row in values]
    widths = [max([len(name), *(_width(row[i]) for row in cells)]) for i, name in enumerate(names)]
    if title:
        console.print(Text(title, style="bold"))
    if sum(widths) + EDGES * len(widths) + 1 > console.width:
        for row in cells:
            for line in paragraph(names, row, console.width):
                console.print(Text(line), soft_wrap=True)
        return
    view = Table()
    for index, name in enumerate(names):
        numbers = values and all(isinstance(row[index], (int, float)) or row[index] is None for row in values)
        view.add_column(Text(name), justify="right" if numbers else "left", no_wrap=True)
    for row in cells:
        view.add_row(*map(Text, row))
    console.print(view)


def paragraph(names: Sequence[str], row: Sequence[str], width: int) -> Iterator[str]:
    """Yield the lines of a row that has no room as one of a table: the first cell, then the others by name.

    A word that is longer than a line stays whole, so that it can be copied.
    """
    first = " ".join(row[0].split("\n"))
    yield from _wrapped(f"{names[0]} {first}" if first.isdigit() else first, width) or ["-"]
    line = ""
    for name, value in zip(names[1:], row[1:], strict=True):
        if not value:
            continue
        part = f"{name} {' '.join(value.split(chr(10)))}"
        if line and len(line) + len(part) + 5 > width:
            yield f"  {line}"
            line = ""
        line = f"{line} · {part}" if line else part
        if len(line) + 2 > width:
            yield from _wrapped(line, width, initial_indent="  ", subsequent_indent="    ")
            line = ""
    if line:
        yield f"  {line}"


def shown(value: object) -> str:
    """Return a cell's text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _width(text: str) -> int:
    return max(map(len, text.split("\n")))
