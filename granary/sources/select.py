"""Which tables a person means by `shop billing.invoices`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from granary.sources.capture import changes_table
from granary.sources.config import problems
from granary.sources.discovery import BROKEN, SOURCES
from granary.warehouse.errors import GranaryError, unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.warehouse.settings import Settings


def select(names: Sequence[str], *, changes: bool = False, usable: bool = False) -> list[tuple[str, str]]:
    """Return (source, table) for each name, in the order of the specs; no name means every table.

    With `changes`, the change tables of captured sources are among them. With `usable`, sources whose modules cannot be
    used are left out where they are named: see `unusable`.

    Raises:
        UsageError: a name is neither a source nor a table of one.
        GranaryError: it is of a source whose module cannot be used.
    """
    every = [
        (source.name, name)
        for source in SOURCES.values()
        for table in source.tables
        for name in (table.name, *([changes_table(table).name] if changes and source.is_captured else []))
    ]
    wanted: set[tuple[str, str]] = set()
    for name in names:
        if name.partition(".")[0] in BROKEN:
            if usable:
                continue
            raise BROKEN[name.partition(".")[0]]
        found = {(source, table) for source, table in every if name in (source, f"{source}.{table}")}
        if not found:
            known = [*(source for source, _ in every), *(f"{source}.{table}" for source, table in every)]
            raise unknown("source or table", name, known)
        wanted |= found
    return [pair for pair in every if pair in wanted] if names else every


def unusable(names: Sequence[str]) -> list[GranaryError]:
    """Return why sources cannot be used, of those that are named; no name means all."""
    return [error for source, error in BROKEN.items() if not names or source in {n.partition(".")[0] for n in names}]


def settings_problems(settings: Settings) -> list[str]:
    """Return what is wrong with the file of the sources' settings; see `granary.sources.config.problems`."""
    known = {name for source in SOURCES.values() for name in source.settings}
    known |= {
        name for one in SOURCES.values() if one.stream for name in (one.stream.address, one.stream.secrets) if name
    }
    known |= {one.capture.setting for one in SOURCES.values() if one.capture}
    return problems(settings, known)
