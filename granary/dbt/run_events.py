"""Progress of a run: events from our own code to whoever started the run in this process.

Nobody listens when Dagster runs the steps elsewhere (`dagster dev`): then these calls do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "planned", "started", "rows", "finished", "materialized", "checked", "failed", "retrying", "skipped", "waiting"
]
Stage = Literal["load", "dbt", "deliver"]
Severity = Literal["", "warn", "error"]


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    `name` is what it happened to (`shop.orders`, `fct_orders`, a test's name), `stage` where that belongs
    (`load`, `dbt` or `deliver`), `asset` the asset a check is about. `rows` is what was read or written so far by a
    loader, and the size of the relation for a table; None where it is not known or makes no sense (views). First of all
    comes a `planned`, whose `rows` is how many tables and views the run is about, and `expected` the seconds that each
    takes by earlier runs. Of a `skipped`, `rows` is how many of them need no work, and `expected` has these with 0.
    """

    kind: Kind
    stage: Stage
    name: str
    group: str = ""
    rows: int | None = None
    seconds: float = 0.0
    passed: bool | None = None
    severity: Severity = ""
    asset: str = ""
    detail: str = ""
    expected: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Problem:
    """A failure a person can act on: what happened, where, and what to do about it; clauses without full stops."""

    what: str
    where: str
    todo: str

    def __str__(self) -> str:
        """One sentence."""
        return f"{self.what} ({self.where}); {self.todo}"


Listener = Callable[[Event | Problem], None]
_listeners: list[Listener] = []


def emit(event: Event | Problem) -> None:
    """Tell the listeners, if there are any."""
    for listener in _listeners:
        listener(event)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Have `listener` called, in whichever thread works, for everything that happens inside."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
