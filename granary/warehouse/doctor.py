"""What of a warehouse could be better: slow steps, indexes, bloat, statistics, settings; each with the next command.

Every check is one query of the catalogue, of the server's counters or of `ops.steps`. It needs no superuser: what a
login may not see is left out, and said.
"""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.errors import InsufficientPrivilege, UndefinedTable

from granary.warehouse import doctor_queries as sql
from granary.warehouse.connection import connect, query
from granary.warehouse.findings import Finding, Report
from granary.warehouse.server import MIB, tuning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

GIB = 1024 * MIB


@dataclass(frozen=True)
class Limits:
    """From where on something is worth a person's time."""

    slow_seconds: float = 5
    slow_share: float = 0.1
    """Of all steps of a run."""
    slower_seconds: float = 2
    slower_times: float = 2
    """As often as long as the median of earlier runs."""
    index_bytes: int = MIB
    dead_rows: int = 10_000
    dead_share: float = 0.2
    bloat_bytes: int = 32 * MIB
    bloat_share: float = 0.5
    statistics_rows: int = 1_000
    statistics_share: float = 0.2
    """By how much the planner's number of rows may be off."""
    scanned_bytes: int = 16 * MIB
    scans: int = 100
    """As often as a table was read from end to end, by the rows that were read."""
    held_bytes: int = GIB
    transaction_age: int = 1_000_000_000
    free_share: float = 0.1
    """Of the disk."""
    setting_times: float = 1.5
    """By how much a setting may differ from what this machine's memory and cores suggest."""


def examine(settings: Settings, limits: Limits | None = None) -> Report:
    """Look at everything.

    Raises:
        GranaryError: the server does not answer.
    """
    bounds = limits or Limits()
    found: list[Finding] = []
    left_out: list[str] = []
    with closing(connect(settings, autocommit=True)) as connection:
        for name, check in CHECKS.items():
            try:
                found += check(connection, bounds)
            except InsufficientPrivilege as error:
                left_out.append(f"{name}: {str(error).splitlines()[0]}")
            except UndefinedTable:
                left_out.append(f"{name}: this warehouse has no such record yet; `granary up` makes it")
        hidden = query(connection, sql.HIDDEN)[0][0]
        if hidden:
            left_out.append(f"bloat and statistics of {hidden:,} tables that this login may not read")
        found += _settings(connection, settings, bounds)
    if settings.external:
        left_out.append("memory, cores and disk: the server is external")
    else:
        found += _disk(settings, bounds)
    return Report.of(found, left_out)


def _slow(connection: Connection, limits: Limits) -> Iterator[Finding]:
    for name, kind, seconds, median, share in query(connection, sql.STEPS):
        usual = f", {median:,.1f} s by the median of the runs before" if median is not None else ""
        large = f"{seconds:,.1f} s, {share:.0%} of all steps{usual}"
        todo = f"granary load {name} --dry-run" if kind == "load" else f"dbt compile --select {name}"
        if median and seconds > median * limits.slower_times and seconds - median > limits.slower_seconds:
            yield Finding(f"{kind} became slower", name, large, todo, "hint")
        elif seconds > limits.slow_seconds and share > limits.slow_share:
            yield Finding(f"slow {kind}", name, large, todo, "hint")


def _unused(connection: Connection, limits: Limits) -> Iterator[Finding]:
    since = query(connection, sql.SINCE)[0][0]
    for index, table, size, model in query(connection, sql.UNUSED, limits.index_bytes):
        todo = _psql(f"drop index {index}")
        if model:
            todo = f"take it out of meta.declared_indexes of the model {model}, then {todo}"
        yield Finding("unused index", f"{index} on {table}", f"{_mb(size)}, never read {since}", todo, "hint", size)


def _duplicates(connection: Connection, limits: Limits) -> Iterator[Finding]:
    for index, other, size in query(connection, sql.DUPLICATES, limits.index_bytes):
        large = f"{_mb(size)}; {other} begins with the same columns"
        yield Finding("needless index", index, large, _psql(f"drop index {index}"), "hint", size)


def _invalid(connection: Connection, _: Limits) -> Iterator[Finding]:
    for index, size in query(connection, sql.INVALID):
        yield Finding("index that is not valid", index, _mb(size), _psql(f"reindex index {index}"), bytes=size)


def _missing(connection: Connection, limits: Limits) -> Iterator[Finding]:
    for table, size, live, times, by_index in query(connection, sql.SCANNED, limits.scanned_bytes, limits.scans):
        large = f"{live:,} rows, {_mb(size)}; read from end to end {times:,} times, {by_index:,} times by an index"
        todo = _psql(f"select query from pg_stat_activity where query like '%{table.rpartition('.')[2]}%'")
        todo += "; an index on what it filters by: meta.declared_indexes of the model, or create index"
        yield Finding("missing index", table, large, todo, "hint", size)


def _dead(connection: Connection, limits: Limits) -> Iterator[Finding]:
    for table, dead, live, size in query(connection, sql.DEAD, limits.dead_rows, limits.dead_share):
        large = f"{dead:,} dead rows beside {live:,}, about {_mb(size)}"
        yield Finding("dead rows", table, large, _psql(f"vacuum (analyze) {table}"), bytes=size)


def _bloat(connection: Connection, limits: Limits) -> Iterator[Finding]:
    for table, size, waste in query(connection, sql.BLOAT, limits.bloat_bytes, limits.bloat_share):
        large = f"about {_mb(waste)} of {_mb(size)} are empty"
        todo = _psql(f"vacuum (full, analyze) {table}") + ", while nobody reads it"
        yield Finding("bloat", table, large, todo, bytes=waste)


def _statistics(connection: Connection, limits: Limits) -> Iterator[Finding]:
    for table, live, known in query(connection, sql.STATISTICS, limits.statistics_rows, limits.statistics_share):
        large = f"{live:,} rows, " + ("and the planner knows nothing" if known is None else f"planned for {known:,}")
        yield Finding("no recent statistics", table, large, _psql(f"analyze {table}"))


def _wraparound(connection: Connection, limits: Limits) -> Iterator[Finding]:
    for database, age in query(connection, sql.AGE, limits.transaction_age):
        large = f"its oldest transaction is {age:,} transactions ago; at 2 billion the server stops"
        yield Finding("transaction ids run out", f"database {database}", large, _psql("vacuum (freeze)"))


def _slots(connection: Connection, limits: Limits) -> Iterator[Finding]:
    for slot, size, active in query(connection, sql.SLOTS, limits.held_bytes):
        large = f"{_mb(size)} of write-ahead log" + ("" if active else ", and nobody reads it")
        todo = _psql(f"select pg_drop_replication_slot('{slot}')") + ", if its reader is gone for good"
        yield Finding("replication slot that holds back the log", slot, large, todo, bytes=size)


CHECKS: dict[str, Callable[[Connection, Limits], Iterable[Finding]]] = {
    "slow steps": _slow,
    "unused indexes": _unused,
    "needless indexes": _duplicates,
    "indexes that are not valid": _invalid,
    "missing indexes": _missing,
    "dead rows": _dead,
    "bloat": _bloat,
    "statistics": _statistics,
    "transaction ids": _wraparound,
    "replication slots": _slots,
}


def _settings(connection: Connection, settings: Settings, limits: Limits) -> Iterator[Finding]:
    """Yield settings that do not fit: on our own server the machine, on another one any warehouse of this size."""
    values = {str(name): (text, source, _number(text)) for name, text, source in query(connection, sql.SETTINGS)}
    for name in ("autovacuum", "track_counts"):
        if values[name][0] == "off":
            yield Finding("setting", name, "off: dead rows and old statistics stay", _alter(name, "on"))
    if settings.external:
        size = int(query(connection, "select pg_database_size(current_database())")[0][0])
        for name, default, advice in sql.DEFAULTS if size > GIB else ():
            if values[name][1] == "default":
                large = f"{values[name][0]}, as Postgres comes, for a warehouse of {_mb(size)}: {advice}"
                yield Finding("setting", name, large, _alter(name, default), "hint")
        return
    wanted = tuning(settings.home / "run")
    for name in sql.TUNED:
        text, source, number = values[name]
        right = _number(wanted[name])
        apart = max(number, right) / max(1, min(number, right))
        if source == "configuration file" and apart > limits.setting_times:
            large = f"{text}, and {wanted[name]} fits this machine"
            yield Finding("setting", name, large, "granary down && granary up")


def _disk(settings: Settings, limits: Limits) -> Iterator[Finding]:
    disk = shutil.disk_usage(settings.home)
    if disk.free < limits.free_share * disk.total:
        large = f"{_mb(disk.free)} of {_mb(disk.total)} are free"
        yield Finding("disk nearly full", str(settings.home), large, "granary status --storage", bytes=disk.total)


def _number(text: str) -> int:
    """Return a setting as a number, in bytes if it has such a unit."""
    for unit, factor in {"kB": 1024, "MB": MIB, "GB": GIB, "TB": 1024 * GIB}.items():
        if text.endswith(unit):
            return int(text.removesuffix(unit)) * factor
    return int(text) if text.isdigit() else 0


def _alter(name: str, value: Any) -> str:
    return _psql(f"alter system set {name} = '{value}'") + ", and restart or reload the server"


def _psql(statement: str) -> str:
    return f'granary psql -c "{statement}"'


def _mb(size: Any) -> str:
    return f"{int(size) / 1e6:,.0f} MB"
