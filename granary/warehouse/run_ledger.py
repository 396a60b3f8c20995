"""The run ledger, `ops.runs` beside `ops.steps`: what ran, who started it, how it ended and what it took.

It is written after the fact, in a transaction of its own. That it cannot be written is a warning and fails nothing: a
table that somebody has locked is waited for briefly.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg

from granary.warehouse import steps
from granary.warehouse.connection import LockHeldError, connect, execute, query, reason
from granary.warehouse.errors import GranaryError
from granary.warehouse.filelock import notify
from granary.warehouse.person import STARTED_BY, starter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings
    from granary.warehouse.steps import Step

LOCK_SECONDS = 2
"""How long a table of the ledger is waited for before it goes without."""
BEAT_SECONDS = 60.0
"""How often a process that goes on for days says what it has done."""
LOST_MINUTES = 10
"""A process that has said nothing for so long is gone."""
CAUSE_LENGTH = 500
RUN_ID = "GRANARY_RUN_ID"
"""What a run tells the processes that it starts, beside who started it."""
KEEP = """
    insert into ops.runs
    select (jsonb_populate_record(
        null::ops.runs, jsonb_build_object('seen_at', clock_timestamp()) || jsonb_strip_nulls(kept)
    )).*
    from jsonb_array_elements($1::jsonb) as kept
    on conflict (run_id) do update set
        started_at = excluded.started_at, finished_at = excluded.finished_at, status = excluded.status,
        cause = excluded.cause, seen_at = excluded.seen_at,
        started_by = coalesce(excluded.started_by, runs.started_by),
        cpu_seconds = coalesce(excluded.cpu_seconds, runs.cpu_seconds),
        peak_memory_bytes = coalesce(excluded.peak_memory_bytes, runs.peak_memory_bytes),
        row_count = coalesce(excluded.row_count, runs.row_count),
        byte_count = coalesce(excluded.byte_count, runs.byte_count)
"""
SETTLE = f"""
    update ops.runs set status = 'failed', finished_at = seen_at, cause = 'its process ended without a word'
    where status = 'running' and kind <> 'job' and seen_at < now() - interval '{LOST_MINUTES} minutes'
"""
MEASURE = """
    insert into ops.table_sizes (measured_on, relation, byte_count, row_count)
    select
        current_date, n.nspname || '.' || whole.relname, sum(pg_total_relation_size(c.oid)),
        sum(greatest(c.reltuples, 0)) filter (where c.relkind <> 'p')
    from pg_class as c
    inner join pg_class as whole on whole.oid = coalesce(pg_partition_root(c.oid), c.oid)
    inner join pg_namespace as n on n.oid = whole.relnamespace
    where c.relkind in ('r', 'm', 'p') and n.nspname !~ '^(pg_|information_schema)' and whole.relname !~ '__delta$'
    group by 1, 2
    on conflict (measured_on, relation) do update set byte_count = excluded.byte_count, row_count = excluded.row_count
"""
OBJECTIVES = """
    insert into ops.objectives as held (relation, source, owner, fresh_seconds)
    select relation, source, owner, fresh_seconds from jsonb_populate_recordset(null::ops.objectives, $1::jsonb)
    on conflict (relation) do update set
        source = excluded.source, owner = excluded.owner, fresh_seconds = excluded.fresh_seconds,
        seen_at = excluded.seen_at
    where
        (held.source, held.owner, held.fresh_seconds)
        is distinct from (excluded.source, excluded.owner, excluded.fresh_seconds)
        or held.seen_at < now() - interval '1 day'
"""
MEASURED = "select exists (select from ops.table_sizes where measured_on = current_date)"
"""The day's first measure is that of its first run, which is as good as any other."""


@dataclass(frozen=True)
class Usage:
    """What a process and its children that have ended took: CPU seconds, and the most memory that one of them held."""

    cpu_seconds: float
    peak_memory_bytes: int

    def since(self, before: Usage) -> Usage:
        """Return what was taken since an earlier moment; the peak is that of the whole process."""
        return replace(self, cpu_seconds=round(self.cpu_seconds - before.cpu_seconds, 3))


@dataclass(frozen=True)
class Run:
    """A row of `ops.runs`; a row that is there keeps what this one does not say."""

    run_id: str
    kind: str
    name: str
    started_at: datetime
    status: str
    finished_at: datetime | None = None
    cause: str | None = None
    started_by: str | None = None
    parent_run_id: str | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    row_count: int | None = None
    byte_count: int | None = None


@dataclass(frozen=True)
class Lag:
    """How far a partition of a stream, or the slot of a capture, is behind; None is unknown."""

    source: str
    kind: str
    part: str
    message_count: int | None
    byte_count: int | None
    seconds: float | None


def usage() -> Usage:
    """Return what this process and its children that have ended have taken so far."""
    taken = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    unit = 1 if sys.platform == "darwin" else 1024
    return Usage(sum(one.ru_utime + one.ru_stime for one in taken), max(one.ru_maxrss for one in taken) * unit)


def cause_of(error: BaseException | str) -> str:
    """Return on one line why something failed; errors of the database without the values of rows."""
    words = error if isinstance(error, str) else reason(error) if isinstance(error, Exception) else type(error).__name__
    return " ".join(words.split())[:CAUSE_LENGTH]


def keep(
    settings: Settings,
    runs: Iterable[Run] = (),
    taken: Iterable[Step] = (),
    lags: Iterable[Lag] = (),
    *,
    role: str = "loader",
) -> bool:
    """Keep runs, steps and lags in one transaction; return whether that was possible, and warn if not."""
    found = list(runs)
    with warned(", ".join(sorted({f"{run.kind} {run.name}" for run in found})) or "steps"):
        with connect(settings, role=role) as connection:
            briefly(connection)
            if found:
                execute(connection, KEEP, _json(found))
            steps.keep(connection, taken)
            _keep_lags(connection, lags)
            execute(connection, SETTLE)
            connection.commit()
            _measure(connection)
        return True
    return False


def _measure(connection: Connection) -> None:
    """Once a day keep the sizes of all tables; while one of them is locked, by a publish, the next run does it."""
    if query(connection, MEASURED)[0][0]:
        return
    try:
        execute(connection, MEASURE)
        connection.commit()
    except LockHeldError:
        connection.rollback()


def keep_objectives(settings: Settings, declared: Sequence[Mapping[str, object]], *, role: str = "loader") -> None:
    """Keep who owns tables, and how long they may have nothing new: rows of `ops.objectives`, where they differ."""
    with warned("objectives"), connect(settings, role=role) as connection:
        briefly(connection)
        execute(connection, OBJECTIVES, json.dumps(declared))
        connection.commit()


def keep_steps(connection: Connection, taken: Iterable[Step]) -> bool:
    """Keep steps over a session that is open, in a transaction of their own; return and warn as `keep` does."""
    with warned("steps"):
        with connection.transaction():
            execute(connection, f"set local lock_timeout = '{LOCK_SECONDS}s'")
            steps.keep(connection, taken)
        return True
    return False


def briefly(connection: Connection) -> None:
    """Have a session wait for a lock only as long as the ledger is worth."""
    execute(connection, f"set lock_timeout = '{LOCK_SECONDS}s'")


@contextmanager
def warned(what: str) -> Iterator[None]:
    """Turn what keeps the ledger from being written into a warning."""
    try:
        yield
    except (GranaryError, psycopg.Error, OSError) as error:
        notify(f"warning: the run ledger goes without {what}: {cause_of(error)}")


def _keep_lags(connection: Connection, lags: Iterable[Lag]) -> None:
    for lag in lags:
        execute(
            connection,
            "insert into ops.lags (source, kind, part, message_count, byte_count, seconds)"
            " values ($1, $2, $3, $4, $5, $6) on conflict (source, kind, part) do update set"
            " message_count = excluded.message_count, byte_count = excluded.byte_count, seconds = excluded.seconds,"
            " seen_at = clock_timestamp()",
            *asdict(lag).values(),
        )


def _json(runs: Sequence[Run]) -> str:
    return json.dumps([asdict(run) for run in runs], default=datetime.isoformat)


class Recorder:
    """A run of this process while it is at work, such as a load, a stream or a capture."""

    def __init__(self, settings: Settings, kind: str, name: str, run_id: str = "") -> None:
        """Take note of when it began; nothing is written yet."""
        self.settings, self.before = settings, usage()
        started = datetime.now(timezone.utc)
        parent = os.environ.get(RUN_ID)
        self.run = Run(
            run_id or str(uuid4()), kind, name, started, "running", started_by=starter(), parent_run_id=parent
        )
        self.beaten = 0.0
        self.problem: str | None = None
        """What went wrong, where nothing is raised."""
        self.writer: threading.Thread | None = None

    def count(self, rows: int, size: int | None = None) -> None:
        """Say how many rows, and bytes, it has brought so far."""
        self.run = replace(self.run, row_count=rows, byte_count=size)

    def beat(self, clock: float, lags: Callable[[], Sequence[Lag]]) -> None:
        """Once a minute (of a monotonic clock, in seconds) keep what was done so far, beside the work, which goes on.

        `lags` is called only then.
        """
        if (self.beaten and clock - self.beaten < BEAT_SECONDS) or (self.writer and self.writer.is_alive()):
            return
        self.beaten = clock
        self.writer = threading.Thread(
            target=keep, args=(self.settings, [self._now("running")], (), lags()), name="run ledger", daemon=True
        )
        self.writer.start()

    def end(self, error: BaseException | None = None, lags: Iterable[Lag] = ()) -> None:
        """Keep how it ended: by this error, by Ctrl-C, or well."""
        words = error or self.problem
        status = "succeeded" if words is None else "canceled" if isinstance(error, KeyboardInterrupt) else "failed"
        if self.writer:
            self.writer.join(2 * LOCK_SECONDS)
        ended = replace(
            self._now(status),
            finished_at=datetime.now(timezone.utc),
            cause=None if words is None else cause_of(words),
        )
        keep(self.settings, [ended], (), lags)

    def _now(self, status: str) -> Run:
        return replace(self.run, status=status, **vars(usage().since(self.before)))


@contextmanager
def recorded(settings: Settings, kind: str, name: str, *, keeps: bool = True) -> Iterator[Recorder]:
    """Keep how what is done inside ended (if it `keeps` anything, and is no trial); what is raised goes on."""
    recorder = Recorder(settings, kind, name)
    try:
        yield recorder
    except BaseException as error:
        if keeps:
            recorder.end(error)
        raise
    if keeps:
        recorder.end()


def environment(run_id: str, started_by: Mapping[str, Any] | str) -> dict[str, str]:
    """Return what a process that a run starts is told of it; of a run of Dagster, by its tags."""
    who = started_by if isinstance(started_by, str) else starter_of(started_by)
    return {RUN_ID: run_id, STARTED_BY: who}


STARTERS = {
    "dagster/schedule_name": "schedule",
    "dagster/sensor_name": "sensor",
    "dagster/backfill": "backfill",
    "dagster/auto_materialize": "automation",
    "granary/started_by": "",
    "user": "user",
}
"""Tags of Dagster's runs that say who asked for them, the most telling first."""


def starter_of(tags: Mapping[str, Any]) -> str:
    """Return who started a run of Dagster that has these tags."""
    for tag, word in STARTERS.items():
        if value := tags.get(tag):
            return f"{word} {value}".strip()
    return "Dagster's UI"
