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
LOADS = """
    select coalesce(jsonb_object_agg(source, load_id), '{}')::text
    from (
        select source, max(load_id) as load_id
        from (
            select source, load_id from ops.load_audit where status in ('loaded', 'withdrawn')
            union all
            select source, load_id from ops.erased_rows
        ) as changes
        group by source
    ) as newest
"""
"""By source, since the loads of a source are committed in the order of their ids, and those of two sources are not."""
WAITING = """
    select (select count(*) from ops.unpublished) + (select count(*) from ops.publish_holds) + (
        select count(*) from (select failures from ops.builds order by finished_at desc limit 1) as last
        where last.failures <> '[]'
    )
"""


@dataclass(frozen=True)
class State:
    """What a build depends on.

    `fingerprint`: a digest of the project's files; `loads`: of each source the newest load or erasure that changed
    something, as the JSON text of an object.
    """

    fingerprint: str
    loads: str


def state(settings: Settings, fingerprint: str) -> State:
    """Return the state as it is now."""
    with connect(settings, role="transformer") as connection:
        return State(fingerprint, str(query(connection, LOADS)[0][0]))


def is_of(settings: Settings, now: State) -> bool:
    """Return whether the last build was of this state, and nothing was built or published since."""
    kept = "select loads::text, publish_id from ops.whole_builds where fingerprint = $1"
    with connect(settings, role="transformer") as connection:
        found = query(connection, kept, now.fingerprint)
        if not found or query(connection, "select to_regclass('ops.builds')::text") == [(None,)]:
            return False
        return found == [(now.loads, query(connection, PUBLISHED)[0][0])] and query(connection, WAITING) == [(0,)]


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
            f"insert into ops.whole_builds (fingerprint, loads, publish_id) values ($1, $2::jsonb, ({PUBLISHED}))",
            built.fingerprint,
            built.loads,
        )
        connection.commit()
