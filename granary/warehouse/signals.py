"""Signals: conditions that hold now and that somebody should know of, a row of `ops.signals` as long as they do.

What other records of `ops` tell by themselves (a failed load, a held publish) is not written here: granary/alerting/
finds it there. This is for what only its finder knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from granary.warehouse.connection import execute

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from granary.warehouse.connection import Connection

Severity = Literal["warning", "critical"]


@dataclass(frozen=True)
class Signal:
    """A condition that holds now.

    `subject` is what it is about: a raw table (`shop.orders`), a source, a node of dbt by its name, or another thing in
    words. `since` is when it began, if that is known; `value` and `threshold` are in the unit of its kind. Nothing here
    is a personal value or a secret: it is told to people.
    """

    kind: str
    subject: str
    since: datetime | None = None
    value: float | None = None
    threshold: float | None = None
    severity: Severity = "warning"
    owner: str = ""
    detail: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by."""
        return self.kind, self.subject


def keep(connection: Connection, kind: str, signals: Iterable[Signal]) -> None:
    """Have these be all signals of a kind: what was kept before and still holds stays since then, the rest is over.

    The caller commits.
    """
    found = {one.subject: one for one in signals}
    assert all(one.kind == kind for one in found.values())
    execute(connection, "delete from ops.signals where kind = $1 and subject <> all($2)", kind, list(found))
    for one in found.values():
        execute(
            connection,
            "insert into ops.signals (kind, subject, since, value, threshold, severity, owner, detail)"
            " values ($1, $2, coalesce($3, clock_timestamp()), $4, $5, $6, $7, $8)"
            " on conflict (kind, subject) do update set since = least(signals.since, excluded.since),"
            " value = excluded.value, threshold = excluded.threshold, severity = excluded.severity,"
            " owner = excluded.owner, detail = excluded.detail, seen_at = excluded.seen_at",
            one.kind,
            one.subject,
            one.since,
            one.value,
            one.threshold,
            one.severity,
            one.owner,
            one.detail,
        )
