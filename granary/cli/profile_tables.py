"""A profile in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from granary.cli import output
from granary.pages.profiles.page import keys_line
from granary.pages.profiles.shapes import bar, spark
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.profiling.drift import Move
    from granary.profiling.profile import ColumnProfile, Profile

COMMON = 3
LONGEST = 18
SPARK = 12
WIDE = 100
"""Columns of a terminal from which on there is room for bars."""
DAYS_ONLY = 10 * 86_400
"""Seconds from which on a range is shown in days."""
SHORT_TYPES = {
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "double precision": "double",
}


def print_profile(profile: Profile, moves: Sequence[Move], before: Profile | None, since: str = "") -> None:
    """Print a profile, the keys that it allows, and what moved since the one before, or since what `since` says."""
    output.line(headline(profile))
    wide = output.console.width >= WIDE
    shape = ("shape",) if wide else ()
    columns = ("column", "nulls", "distinct", "range (median)", *shape, "most common")
    output.table("", columns, [_row(column, profile, wide=wide) for column in profile.columns])
    output.line(keys_line(profile))
    print_drift(moves, before, since)


def headline(profile: Profile) -> str:
    """Return the table, its rows, and what the rest was computed on."""
    rows = f"{profile.relation}: {plural(profile.rows, 'row')}, {plural(len(profile.columns), 'column')}"
    if profile.exact:
        return rows
    return (
        f"{rows}. Distinct values, percentiles and common values come from a random sample of {profile.sampled:,} rows"
        " (distinct: projected, about); counts, nulls, least and greatest are exact."
    )


def print_drift(moves: Sequence[Move], before: Profile | None, since: str = "") -> None:
    """Print what moved."""
    if before is None:
        output.line("There is no earlier profile to compare with; the next one will be compared with this.")
        return
    since = since or f"since the profile of {before.profiled_at:%Y-%m-%d %H:%M} UTC"
    if not moves:
        output.line(f"No drift {since}.")
        return
    output.table(
        f"Moved {since}",
        ("column", "what", "before", "now", "how much", "PSI", "KS"),
        [
            (
                *(printable(text) for text in (move.column or "the table", move.what, move.before, move.now)),
                move.level,
                "" if move.psi is None else f"{move.psi:.2f}", "" if move.ks is None else f"{move.ks:.2f}",
            )
            for move in moves
        ],
    )  # fmt: skip


def _row(column: ColumnProfile, profile: Profile, *, wide: bool) -> list[str]:
    share = column.nulls / profile.rows if profile.rows else 0.0
    name = f"{printable(column.name)}\n{SHORT_TYPES.get(column.type, column.type)}"
    nulls = (f"{share:6.1%} {bar(share)}" if wide else f"{share:.1%}") if share else ""
    distinct = f"{column.distinct:,}" if profile.exact else f"~{column.distinct:,}"
    common = ", ".join(f"{short(value)} {each:.0%}" for value, each in column.top[:COMMON] if each >= 0.01)  # noqa: PLR2004
    shown = "personal: not shown" if column.personal else between(column)
    return [name, nulls, distinct, shown, *([spark(column, SPARK)] if wide else []), common]


def between(column: ColumnProfile) -> str:
    """Return the least and the greatest value and the median, as far as there are any; of long times the days."""
    if not column.percentiles:
        return ""
    least, median, greatest = (column.shown(column.percentiles[percent]) for percent in (0, 50, 100))
    if column.kind == "time" and column.percentiles[100] - column.percentiles[0] > DAYS_ONLY:
        least, median, greatest = least[:10], median[:10], greatest[:10]
    return f"{least} … {greatest} ({median})" if least != greatest else least


def short(value: str) -> str:
    """Return a value that does not fill the screen."""
    plain = printable(value)
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 1] + "…"


def printable(text: str) -> str:
    """Return text without characters that would move the cursor or change the terminal."""
    return "".join(letter if letter.isprintable() else "·" for letter in text)
