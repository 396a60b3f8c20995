"""A build that was killed, or failed, goes on where it was: what it has built already is not built again.

That holds as long as it would be the same build: of the same project, loads and window, and no other one since.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granary.dbt.manifest_nodes import PUBLISHED
from granary.dbt.step_times import TABLES
from granary.warehouse.connection import connect, execute, query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.dbt.last_build import State
    from granary.warehouse.settings import Settings

BUILT = "select name, run_id, finished_at from ops.steps where build = $1 and kind = any($2)"
OTHERS = """
    select 1 from ops.publish_holds
    where schema_name = $1 and reason = 'has not finished' and invocation_id <> all($2)
    union all
    select 1 from ops.builds where finished_at > $3 and invocation_id <> all($2)
    limit 1
"""


@dataclass(frozen=True)
class Rest:
    """Of a build, the names of the nodes that are built, and what dbt is to select for the others and all tests."""

    built: frozenset[str]
    selected: tuple[str, ...]


def about(state: State, window: object, *, full_refresh: bool) -> str:
    """Return what a build is known by."""
    return f"{state.fingerprint} {state.loads} {window or ''} {'full' if full_refresh else ''}".strip()


def rest(settings: Settings, build: str, manifest: Mapping[str, Any]) -> Rest | None:
    """Return what is left of an earlier attempt at a build, or None if there was none; the others are forgotten.

    What it built holds publishing no more: its tests do, and they are run.
    """
    with connect(settings, role="transformer") as connection:
        execute(connection, "update ops.steps set build = null where build <> $1", build)
        found = query(connection, BUILT, build, list(TABLES))
        runs, since = list({row[1] for row in found}), min((row[2] for row in found), default=None)
        tables = query(connection, "select to_regclass('ops.builds') is null")
        if not found or tables == [(True,)] or query(connection, OTHERS, PUBLISHED, runs, since):
            execute(connection, "update ops.steps set build = null where build = $1", build)
            connection.commit()
            return None
        built = {row[0] for row in found}
        nodes = [node for node in manifest["nodes"].values() if node["resource_type"] in (*TABLES, "test")]
        done = [node["unique_id"] for node in nodes if node["resource_type"] != "test" and node["name"] in built]
        execute(
            connection,
            "delete from ops.publish_holds where schema_name = $1 and invocation_id = any($2) and node = any($3)",
            PUBLISHED,
            runs,
            done,
        )
        connection.commit()
    left = sorted(".".join(node["fqn"]) for node in nodes if node["unique_id"] not in set(done))
    return Rest(frozenset(built), tuple(left))


def finished(settings: Settings, build: str) -> None:
    """Keep that a build has succeeded: the next one of the same builds everything."""
    with connect(settings, role="transformer") as connection:
        execute(connection, "update ops.steps set build = null where build = $1", build)
        connection.commit()
