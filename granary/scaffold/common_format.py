"""How several files of one table are written, as far as they are alike, and what to say where they are not."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from granary.scaffold.python_text import Group, construction, literal
from granary.sources.units import UnreadableError
from granary.warehouse.errors import GranaryError
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pyarrow as pa

    from granary.readers.files.formats import Format
    from granary.readers.files.sniff import Sniffed


def looks(
    members: Sequence[str], look: Callable[[str, int], Sniffed], limit: int
) -> tuple[dict[str, Sniffed], list[str]]:
    """Return what files are, and what to say of those that cannot be read.

    Raises:
        UnreadableError: none can be read.
    """
    seen: dict[str, Sniffed] = {}
    notes: list[str] = []
    for member in members:
        try:
            seen[member] = look(member, limit)
        except UnreadableError as error:
            if len(notes) == len(members) - 1:
                raise
            notes.append(f"{member} cannot be read, and no load will take it: {error.what}")
    return seen, notes


def aligned(seen: dict[str, Sniffed]) -> dict[str, Sniffed]:
    """Return files without a header under the names of one that has one, where they have as many columns."""
    header = next((one.sample.column_names for one in seen.values() if getattr(one.options, "header", False)), None)
    if header is None:
        return seen
    return {
        name: one._replace(sample=one.sample.rename_columns(header))
        if getattr(one.options, "header", None) is False and one.sample.num_columns == len(header)
        else one
        for name, one in seen.items()
    }


def agreed(seen: Mapping[str, Sniffed]) -> tuple[Format, list[str]]:
    """Return the format that all files have; where they differ an option stays to be found out for each file.

    Returns:
        The format, and what to say of the differences.

    Raises:
        GranaryError: they are of different formats.
    """
    first_name, first = next(iter(seen.items()))
    notes, options = [], first.options
    for name, one in seen.items():
        if type(one.options) is not type(first.options):
            where = f"{first_name} is {first.format}, {name} is {one.format}"
            raise GranaryError("the files are of different formats", where, "look at them one by one")
    for option in fields(options):
        values = {getattr(one.options, option.name): name for name, one in seen.items()}
        if option.name in PLACES:
            notes += _above(option.name, values)
            options = replace(options, **{option.name: next(reversed(values))})
        elif option.name in SHEETS:
            options = replace(options, **{option.name: next((each for each in values if each), None)})  # type: ignore[arg-type]
        elif len(values) > 1 and any((option.name, value) not in ORDINARY for value in values):
            options = replace(options, **{option.name: option.default})  # type: ignore[arg-type]
            shown = ", ".join(f"{value!r} in {name}" for value, name in list(values.items())[:2])
            notes.append(f"its files differ in {option.name} ({shown}): it is found out for each of them")
    return options, notes


def _above(option: str, values: Mapping[object, str]) -> list[str]:
    """Return what to say of rows above the header; the newest of the files comes last in `values`."""
    newest = list(values)[-1]
    if len(values) > 1:
        shown = ", ".join(f"{value} in {name}" for value, name in values.items())
        return [f"its files differ in {option} ({shown}): each load finds the header by its names"]
    above = int(str(newest)) - PLACES[option]
    lines = "the line above the header is" if above == 1 else f"the {above} lines above the header are"
    return [f"{lines} taken for a title, and left out ({option}={newest})"] if above else []


def totals(seen: Mapping[str, Sniffed]) -> list[str]:
    """Return what to say of files that end with a total: it lands as if it were a row of the table."""
    found = {name: last for name, one in seen.items() if (last := _total(one.sample))}
    if not found:
        return []
    name, word = next(iter(found.items()))
    ends = "its last row is a total" if len(seen) == 1 else f"{len(found)} of its files end with a total"
    return [f"{ends} ({word!r} in {name}): it lands like the others; leave it out in staging"]


def _total(sample: pa.Table) -> str:
    """Return the word for a total that a table's last row begins with; it has fewer values than the row before."""
    if sample.num_rows < 3:  # noqa: PLR2004 - one row, and the one above it, have no total
        return ""
    ends = sample.slice(sample.num_rows - 2).to_pylist()
    before, last = ([text for value in row.values() if (text := str(value or "").strip())] for row in ends)
    return last[0] if last and len(last) < len(before) and TOTAL.fullmatch(last[0]) else ""


def unread(seen: Mapping[str, Sniffed]) -> list[str]:
    """Return what to say of what else is in the files, such as further sheets."""
    found: dict[str, str] = {}
    for name, one in seen.items():
        for note in one.notes:
            found.setdefault(note, name)
    return [note if len(seen) == 1 else f"in {name} {note}" for note, name in found.items()]


def refused(seen: Mapping[str, Sniffed]) -> list[str]:
    """Return what to say of rows that no load can take."""
    bad = [(name, line, reason) for name, one in seen.items() for line, reason in one.refused]
    if not bad:
        return []
    name, line, reason = bad[0]
    rows = sum(one.sample.num_rows for one in seen.values()) + len(bad)
    place = f"{name}, line {line}" if line else name
    return [f"{len(bad):,} of {plural(rows, 'row')} cannot be read and will be refused ({place}: {reason})"]


def without_gap(sample: pa.Table, options: Format) -> tuple[pa.Table, Format]:
    """Leave out the last column if it has neither a name nor a value, because each row ends with a delimiter."""
    from granary.readers.files.formats import Csv

    last = f"column_{sample.num_columns}"
    if not isinstance(options, Csv) or sample.num_columns < 2 or sample.column_names[-1] != last:  # noqa: PLR2004
        return sample, options
    if pc.any(pc.not_equal(sample[last], "")).as_py():
        return sample, options
    if options.columns:
        options = replace(options, columns=(*options.columns[:-1], ""))
    return sample.drop_columns([last]), options


def declared(options: Format, *, named: bool) -> Group | None:
    """Return the format as an expression, if the reader would not find it out by itself from the file's name."""
    from granary.readers.files.formats import Csv

    shown = construction(options, ORDINARY)
    if not named and not shown.parts and isinstance(options, Csv):
        return replace(shown, parts=(f"delimiter={literal(str(options.delimiter))}",))
    return shown if shown.parts or not named else None


PLACES = {"skip": 0, "header_row": 1}
"""Options that say where the header is, which no load finds out, and what they are without a title above it."""
SHEETS = ("sheet", "sheet_column")
"""Options for several sheets, with which a workbook that has one is read, too."""
TOTAL = re.compile(
    r"((grand|sub)[ -]?)?total\b.*|totaa?le?s?|sum|summen?|som(me|a)?|suma|insgesamt|gesamt(summe|betrag)?"
    r"|итого|всего|合计|总计|合計",
    re.IGNORECASE,
)
"""What the row below a table begins with that adds it up."""

ORDINARY = (
    ("delimiter", ","), ("delimiter", "\t"), ("delimiter", "|"), ("quote", '"'), ("escape", ""),
    ("encoding", "utf-8"), ("encoding", "ascii"), ("encoding", "utf-8-sig"), ("header", True),
)  # fmt: skip
"""What is detected without doubt in each file; a file without a header, or in an old encoding, is better declared."""
