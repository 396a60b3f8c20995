"""What the generated descriptions say: facts of the sample, and nothing that could be code or personal."""

from __future__ import annotations

import math
import re
from datetime import date, datetime
from typing import TYPE_CHECKING

from granary.scaffold.names import singular

if TYPE_CHECKING:
    from granary.scaffold.plan import PlannedColumn, PlannedSource, PlannedTable

PLAIN = re.compile(r"\w[\w .,()/&%*+-]{0,59}", re.ASCII)
"""Text of the source that a description may repeat: without braces, quotes, backslashes and line breaks."""
DESCRIPTION = re.compile(r"\w[^{}\\\x00-\x1f\x7f]{0,999}")
"""What an owner says of a table or column, as a description may repeat it: one line without Jinja's braces."""


def source_says(source: PlannedSource) -> str:
    """Return a description of a source."""
    return f"{source.name.capitalize()}, as its owner delivers it ({source.kind})."


def table_says(table: PlannedTable) -> str:
    """Return a description of a table: its owner's, or what it is made from."""
    if DESCRIPTION.fullmatch(table.description):
        return table.description
    where = f", from `{table.location}`" if PLAIN.fullmatch(table.location) else ""
    return f"One row per {singular(table.name).replace('_', ' ')}{where}."


def column_says(column: PlannedColumn) -> str:
    """Return a description of a column: what its owner says, else its header, nulls and number of values."""
    if column.agreed and DESCRIPTION.fullmatch(column.agreed.description):
        return column.agreed.description
    name = column.header if PLAIN.fullmatch(column.header) else column.name
    seen = column.seen
    if seen.rows == seen.nulls:
        return f"{name}: always empty so far."
    empty = "never empty" if not seen.nulls else f"empty in {max(1, round(100 * seen.nulls / seen.rows))} of 100 rows"
    values = f"{seen.distinct:,} value{'s' if seen.distinct > 1 else ''}"
    if seen.unique:
        values = "another value in each row"
    words = [word for word in column.null if PLAIN.fullmatch(word)]
    absent = f" No value is written as {', '.join(words)}." if words else ""
    return f"{name}: {empty}, {values}.{absent}"


def cast_says(column: PlannedColumn) -> str:
    """Return a description of the column in which a text is read as what it is."""
    look = column.written
    assert look is not None
    seen = "all values that there were" if look.share == 1 else f"{math.floor(100 * look.share)} of 100 values"
    more = " In percent: 5 % is 5." if look.kind == "percent" else ""
    if look.cents:
        more = f" {'1.000' if look.style == '.' else '1,000'} is null, too, as it may be a thousand."
    return f"{column.staged} read as a {look.kind}, as {seen} could be; null where it cannot.{more}"


def range_says(column: PlannedColumn) -> str:
    """Return the range that was found, for a description; empty for what has none or is personal."""
    low, high = column.seen.minimum, column.seen.maximum
    if low is None or column.personal:
        return ""
    shown = [f"{end:%Y-%m-%d}" if isinstance(end, (date, datetime)) else f"{end:,}" for end in (low, high)]
    return f" From {shown[0]} to {shown[1]}."
