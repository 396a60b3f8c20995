"""What the last build of the whole project saw: if nothing changed since then, another one would change nothing.

It is kept in the warehouse (ops.whole_builds), so that a warehouse that is restored knows its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from granary.warehouse.connection import connect, execute, query

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

SAME = "nothing changed since they were built"
PUBLISHED = "select coalesce(max(publish_id), 0) from ops.publishes"
WAITING = """
    select (select count(*) from ops.unpublished) + (select count(*) from ops.publish_holds) + (
        select count(*) from (select failures from ops.builds order by finished_at desc limit 1) as last
        where last.failures <> '[]'
    )
"""


@dataclass(frozen=True)
class State:
    """What a build depends on: the project's files (a digest) and the newest load or erasure that changed something."""

    fingerprint: str
    load_id: int


def state(settings: Settings, fingerprint: str) -> State:
    """Return the state as it is now."""
    newest = (
        "select greatest((select max(load_id) from ops.load_audit where status in ('loaded', 'withdrawn')),"
        " (select max(load_id) from ops.erased_rows), 0)"
    )
    with connect(settings, role="transformer") as connection:
        return State(fingerprint, int(query(connection, newest)[0][0]))


def is_of(settings: Settings, now: State) -> bool:
    """Return whether the last build was of this state, and nothing was built or published since."""
    kept = "select load_id, publish_id from ops.whole_builds where fingerprint = $1"
    with connect(settings, role="transformer") as connection:
        found = query(connection, kept, now.fingerprint)
        if not found or query(connection, "select to_regclass('ops.builds')::text") == [(None,)]:
            return False
        return found == [(now.load_id, query(connection, PUBLISHED)[0][0])] and query(connection, WAITING) == [(0,)]


def was_of(settings: Settings, fingerprint: str) -> bool:
    """Return whether the last build of everything was of this project, whatever was loaded since then."""
    with connect(settings, role="transformer") as connection:
        return bool(query(connection, "select 1 from ops.whole_builds where fingerprint = $1", fingerprint))


def keep(settings: Settings, built: State) -> None:
    """Keep that the whole project was built in this state."""
    with connect(settings, role="transformer") as connection:
        execute(connection, "delete from ops.whole_builds")
        execute(
            connection,
            f"insert into ops.whole_builds (fingerprint, load_id, publish_id) values ($1, $2, ({PUBLISHED}))",
            built.fingerprint,
            built.load_id,
        )
        connection.commit()
