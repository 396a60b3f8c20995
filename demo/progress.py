"""Progress of the retailer's systems."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One delivery that is ready: the system, the file or table, and how many rows it holds."""

    system: str
    item: str
    rows: int


Listener = Callable[[Step], None]
"""Called after every step, in the caller's own thread."""


def silent(_: Step) -> None:
    """Tell nobody."""
