"""The steps of runs and their seconds, `ops.steps`: how long what is left will take, and what has become slow."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from granary.warehouse.connection import execute, query

if TYPE_CHECKING:
    from collections.abc import Iterable

    from granary.warehouse.connection import Connection

RUNS_LOOKED_AT = 5
"""Earlier runs of a step of which the median is what it is expected to take."""
EXPECTED = """
    with recent as (
        select
            name, kind, seconds, run_id, row_number() over (partition by name order by finished_at desc) as age
        from ops.steps
        where is_full = $1 and kind <> 'test'
    ),

    -- Steps of dbt run side by side: of each run, how many at a time.
    runs as (
        select
            run_id,
            greatest(1, sum(seconds) / nullif(extract(
                epoch from max(finished_at) - min(finished_at - make_interval(secs => seconds))
            ), 0)) as abreast
        from ops.steps
        where run_id in (select run_id from recent where age <= $2)
        group by run_id
    )

    select recent.name, percentile_cont(0.5) within group (order by recent.seconds / runs.abreast)
    from recent
    inner join runs on recent.run_id = runs.run_id
    where recent.age <= $2
    group by recent.name
"""


@dataclass(frozen=True)
class Step:
    """A table's load, or a node of dbt, in one run (of Dagster, or an invocation of dbt)."""

    run_id: str
    kind: str
    name: str
    relation: str | None
    is_full: bool
    seconds: float
    rows: int | None
    build: str | None = None


def keep(connection: Connection, steps: Iterable[Step]) -> None:
    """Keep what steps took; the caller commits."""
    for step in steps:
        execute(
            connection,
            "insert into ops.steps (run_id, kind, name, relation, is_full, seconds, row_count, build)"
            " values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (run_id, name) do update set"
            " seconds = excluded.seconds, row_count = excluded.row_count, finished_at = excluded.finished_at",
            *astuple(step),
        )


def expected(connection: Connection, *, is_full: bool) -> dict[str, float]:
    """Return by name the seconds of a run that each step is expected to take, from the last full or other runs.

    Where several ran at a time, a step counts with its share.
    """
    return {str(name): float(seconds) for name, seconds in query(connection, EXPECTED, is_full, RUNS_LOOKED_AT)}
