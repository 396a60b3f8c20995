"""Where the marts stand: what holds publishing, what waits for it, and how dbt last ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granary.dbt.manifest_nodes import PUBLISHED
from granary.warehouse.connection import query
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from granary.warehouse.connection import Connection

NAMED = 5
"""Names that a line gives before it breaks off."""
UNDO = "undo"
"""The node of the hold that an undo leaves (history.sql)."""
NO_DATA = "has never had data"
"""The reason of a node that failed and holds nothing, since its source never delivered (runs.sql)."""
HOLDS = """
    select split_part(node, '.', 3), reason, since from ops.publish_holds where schema_name = $1
    order by reason <> 'failed', since, node
"""
WAITING = "select mart, count(*) from ops.unpublished where schema_name = $1 group by mart order by mart"
LAST = """
    select command, finished_at, failures, warnings from ops.builds where schema_name = $1
    order by finished_at desc limit 1
"""


@dataclass(frozen=True)
class PublishState:
    """What dbt and the loads left behind.

    `holds` have a node, its reason and since when; `unpublished` a mart and how many partitions of it wait;
    `last_build` the command of dbt's last run, when it ended, and the nodes that failed and that warned.
    """

    holds: tuple[dict[str, Any], ...] = ()
    unpublished: tuple[dict[str, Any], ...] = ()
    last_build: dict[str, Any] | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong and what to do about it, a sentence each."""
        return tuple(self._problems())

    def _problems(self) -> Iterator[str]:
        failures = self.last_build["failures"] if self.last_build else []
        if self.last_build and failures:
            yield (
                f"The last `dbt {self.last_build['command']}` ({self.last_build['finished_at']:%Y-%m-%d %H:%M}) did not"
                f" succeed: {_some(_result(one) for one in failures)}: fix it, then `granary run`"
            )
        undone = next((hold for hold in self.holds if hold["node"] == UNDO), None)
        if undone:
            yield (
                f"Publishing is held by `granary publish --undo`, since {undone['since']:%Y-%m-%d %H:%M}: undo"
                f" {undone['reason']}"
            )
        holds = [hold for hold in self.holds if hold is not undone]
        if holds:
            names, why = [hold["node"] for hold in holds], (f"{h['node']} {h['reason']}" for h in holds)
            despite = ", ".join(names) if len(names) <= NAMED else "NAME, ..."
            yield (
                f"Publishing is held, the marts stay as they were: {_some(why)}: fix it, then `granary run`; or let it"
                " through as it is:"
                f' dbt run-operation publish --args "{{despite: [{despite}]}}"'
            )
        if self.unpublished:
            marts = _some(one["mart"] for one in self.unpublished)
            todo = "that follows once nothing holds" if self.holds else "`dbt run-operation publish`"
            yield f"Built and not published: {marts}: {todo}"


def publish_state(connection: Connection) -> PublishState:
    """Return where the marts stand; in a warehouse that dbt never built, nothing is wrong with them."""
    built, held = query(
        connection, "select to_regclass('ops.builds') is not null, to_regclass('ops.publish_holds') is not null"
    )[0]
    if not held:
        return PublishState()
    last = query(connection, LAST, PUBLISHED) if built else []
    names = ("command", "finished_at", "failures", "warnings")
    return PublishState(
        holds=tuple(
            {"node": node, "reason": reason, "since": since}
            for node, reason, since in query(connection, HOLDS, PUBLISHED)
            if reason != NO_DATA
        ),
        unpublished=tuple({"mart": mart, "partitions": n} for mart, n in query(connection, WAITING, PUBLISHED)),
        last_build=dict(zip(names, last[0], strict=True)) if last else None,
    )


def _result(one: dict[str, Any]) -> str:
    rows = one.get("rows")
    counted = f" ({plural(rows, 'row')})" if rows else ""
    return f"{one['node']} {one['status']}{counted}"


def _some(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
    return f"{', '.join(found[:NAMED])}{more}"
