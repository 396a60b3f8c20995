"""Which tables a person means by `pos crm.products`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingestion.cdc.spec import changes_table
from ingestion.sources import SOURCES
from warehouse.errors import unknown

if TYPE_CHECKING:
    from collections.abc import Sequence


def select(names: Sequence[str], *, changes: bool = False) -> list[tuple[str, str]]:
    """Return (source, table) for each name, in the order of the specs; no name means every table.

    With `changes`, the change tables of captured sources are among them.

    Raises:
        UsageError: a name is neither a source nor a table of one.
    """
    every = [
        (source.name, name)
        for source in SOURCES.values()
        for table in source.tables
        for name in (table.name, *([changes_table(table).name] if changes and source.capture else []))
    ]
    wanted: set[tuple[str, str]] = set()
    for name in names:
        found = {(source, table) for source, table in every if name in (source, f"{source}.{table}")}
        if not found:
            known = [*(source for source, _ in every), *(f"{source}.{table}" for source, table in every)]
            raise unknown("source or table", name, known)
        wanted |= found
    return [pair for pair in every if pair in wanted] if names else every
