"""What names of files and of columns say, and which are refused."""

from __future__ import annotations

import re
from collections import Counter
from datetime import date
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from granary.readers.files.formats import by_name, stem
from granary.readers.files.patterns import takes
from granary.sources.units import NotLoaded, UnreadableError
from granary.warehouse.records import LOAD_ID, ROW

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
NAME_BYTES = 63
"""Postgres cuts longer names off, so two of them could become one."""

NOBODY = "granary_knows_no_column_yet"
"""The one column of the contract with which a file is looked at that nobody has described."""

TEMPORARY = (".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".download", ".swp", ".writing", "~")
TEMPORARY_IN = ("._copying_", ".inprogress")
"""What programs call a file that they are still writing: browsers, FTP clients, editors, Hadoop, Flink."""


def is_temporary(name: str, pattern: str) -> bool:
    """Return whether a file is hidden or still being written, by convention.

    A part of its path that begins with "." or "_" hides it, unless the table's location names that part itself.
    """
    path = PurePosixPath(name)
    named = set(PurePosixPath(pattern).parts)
    low = path.name.lower()
    return (
        any(part[0] in "._" and part not in named for part in path.parts)
        or low.endswith(TEMPORARY)
        or any(mark in low for mark in TEMPORARY_IN)
    )


def left_out(name: str, patterns: Sequence[str]) -> NotLoaded | None:
    """Return why a file is left out, or None if a pattern takes it, or if it is hidden by convention."""
    path = PurePosixPath(name)
    taken_by = [pattern for pattern in patterns if takes(pattern, name)]
    if any(not is_temporary(name, pattern) for pattern in taken_by):
        return None
    plain = path.name.lstrip("._")
    inside_hidden = any(part[0] in "._" for part in path.parts[:-1])
    if inside_hidden or plain != path.name:
        if inside_hidden or not plain or by_name(plain)[0] is None or is_temporary(plain, ""):
            return None
        names = (name, str(path.with_name(plain)))
        meant = any(takes(pattern, each) for pattern in patterns for each in names)
        return NotLoaded(name, "passed over", "a name that begins with '.' or '_' hides a file") if meant else None
    if is_temporary(name, ""):
        return NotLoaded(name, "waiting", "its name says that it is still being written")
    return NotLoaded(name, "passed over", "no table of the source takes it")


def day_of(name: str) -> date:
    """Return the business date that a file is named by.

    Raises:
        ValueError: it is not named by one; the text says so.
    """
    day = stem(name)
    if not DAY.fullmatch(day):
        raise ValueError("the file is not named by its business date (YYYY-MM-DD)")
    try:
        return date.fromisoformat(day)
    except ValueError:
        raise ValueError("the file's name is not a date (YYYY-MM-DD)") from None


def numbered(cells: Sequence[str], known: Collection[str]) -> list[str]:
    """Return a header's names: blanks cut off, nameless columns by their place, and a name that comes again numbered.

    The second `answer` is `answer_2`, if the contract knows it by that name or nobody has written one yet; otherwise
    the name stays and is refused as being there twice.
    """
    given = [cell.strip() or f"column_{place}" for place, cell in enumerate(cells, 1)]
    names: list[str] = []
    for name in given:
        if name in names:
            free = (f"{name}_{number}" for number in range(2, len(given) + 2))
            better = next(one for one in free if one not in given and one not in names)
            name = better if NOBODY in known or better in known else name  # noqa: PLW2901
        names.append(name)
    return names


def check_columns(names: Sequence[str], known: Collection[str], where: str) -> None:
    """Refuse columns that no raw table can have; any other name, however odd, is only a name.

    Where none is known, they may be values of a file without a header, so they are not shown.

    Raises:
        UnreadableError: a name is empty, too long, unprintable, there twice, or one of the load's own.
    """
    times = Counter(names)
    hidden = bool(known) and NOBODY not in known and set(known).isdisjoint(names)
    for place, name in enumerate(names, 1):
        problem = ""
        if times[name] > 1:
            problem = "is there twice"
        elif name in known:
            continue
        elif not name.strip():
            problem = "has no name"
        elif not name.isprintable():
            problem = "has unprintable characters"
        elif len(name.encode()) > NAME_BYTES:
            problem = f"is longer than {NAME_BYTES} bytes"
        elif name in (LOAD_ID, ROW):
            problem = "is one of the load's own"
        if problem:
            shown = place if hidden else repr(name[:NAME_BYTES])
            raise UnreadableError(f"column {shown} {problem}", where, "ask the source to rename it")
