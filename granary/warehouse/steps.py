"""The steps of runs, `ops.steps`: how each ended and what it took; how long what is left of a run will take."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
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
        where is_full = $1 and kind not in ('test', 'publish') and status = 'succeeded'
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
KEEP = """
    insert into ops.steps
    select (jsonb_populate_record(
        null::ops.steps, jsonb_build_object('finished_at', clock_timestamp()) || jsonb_strip_nulls(kept)
    )).*
    from jsonb_array_elements($1::jsonb) as kept
    on conflict (run_id, name) do update set
        seconds = excluded.seconds, row_count = excluded.row_count, started_at = excluded.started_at,
        finished_at = excluded.finished_at, status = excluded.status, cause = excluded.cause,
        byte_count = excluded.byte_count, cpu_seconds = excluded.cpu_seconds,
        peak_memory_bytes = excluded.peak_memory_bytes
"""


@dataclass(frozen=True)
class Step:
    """A table's load, a node of dbt or its publish, in one run (of Dagster, or an invocation of dbt).

    `row_count` are the rows that it wrote; of a test, those that fail it. `relation` is what it makes or tests.
    """

    run_id: str
    kind: str
    name: str
    relation: str | None
    is_full: bool
    seconds: float
    row_count: int | None
    build: str | None = None
    finished_at: datetime | None = None
    started_at: datetime | None = None
    status: str = "succeeded"
    cause: str | None = None
    byte_count: int | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None


def keep(connection: Connection, steps: Iterable[Step]) -> None:
    """Keep what steps took; the caller commits. One that names no end has ended now."""
    if kept := {(step.run_id, step.name): asdict(step) for step in steps}:
        execute(connection, KEEP, json.dumps(list(kept.values()), default=datetime.isoformat))


def expected(connection: Connection, *, is_full: bool) -> dict[str, float]:
    """Return by name the seconds of a run that each step is expected to take, from the last full or other runs.

    Where several ran at a time, a step counts with its share.
    """
    return {str(name): float(seconds) for name, seconds in query(connection, EXPECTED, is_full, RUNS_LOOKED_AT)}
