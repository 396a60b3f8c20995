"""The two copies that a twin is: what analysts read, and what only those see who may read personal columns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Copy:
    """A DuckLake of its own: the schema of its catalogue, the role that reads it, and the mode of its folder."""

    catalog: str
    reader: str
    mode: int

    @property
    def new(self) -> str:
        """The schema of the catalogue that is to take its place."""
        return f"{self.catalog}__new"

    @property
    def old(self) -> str:
        """The schema of the catalogue whose place was taken."""
        return f"{self.catalog}__old"


SHARED = Copy("twin", "analyst", 0o750)
"""Every mart that `analyst` may read, as `analyst` sees it: columns with a mask have the mask."""
PERSONAL = Copy("twin_personal", "analyst_pii", 0o700)
"""Marts with a mask without it, and marts that `analyst` may not read."""
COPIES = (SHARED, PERSONAL)
