"""Looking: the signals that hold now, by the rules' queries, by probes of what SQL cannot ask, and by `ops.signals`.

A rule that cannot be asked (a table is locked, a source's server is away) is blind: what it said before still counts.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import psycopg

from granary.alerting.rules import RULES, Rule, rule_of
from granary.cdc import status as capture_status
from granary.deliver.discovery import PACKAGE as DELIVERIES
from granary.load.freshness import FRESHNESS, Freshness, rest
from granary.load.newest import last_date
from granary.sources.discovery import BROKEN, SOURCES
from granary.warehouse.connection import connect, execute, query, reason
from granary.warehouse.errors import GranaryError
from granary.warehouse.signals import Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

LOCK_SECONDS, STATEMENT_SECONDS = 2, 20
"""How long a rule waits for a lock, and how long it may take, before it is blind."""
KEPT = "select kind, subject, since, value, threshold, severity, owner, detail from ops.signals order by 1, 2"
KEPT_SIGNALS = "ops.signals"
DETAIL = 300
"""Characters of a detail that are told."""


@dataclass(frozen=True)
class Look:
    """The signals that hold, and by kind why a rule could not be asked. `now` is the server's time."""

    now: datetime
    signals: tuple[Signal, ...]
    blind: Mapping[str, str]

    def is_blind(self, kind: str) -> bool:
        """Whether it is not known what holds of a kind."""
        is_kept = kind not in PROBES and not rule_of(kind).sql
        return kind in self.blind or (is_kept and KEPT_SIGNALS in self.blind)


def look(settings: Settings, rules: Iterable[Rule], *, now: datetime | None = None, remote: bool = True) -> Look:
    """Ask every rule.

    Args:
        settings: the warehouse.
        rules: those that are on.
        now: the time, if it is not the server's.
        remote: whether to ask other machines, too: databases that are captured.

    Raises:
        GranaryError: the warehouse does not answer.
    """
    found: list[Signal] = []
    blind: dict[str, str] = {}
    asked = {rule.kind: rule for rule in rules}
    with connect(settings, autocommit=True) as connection:
        execute(connection, f"set lock_timeout = '{LOCK_SECONDS}s'")
        execute(connection, f"set statement_timeout = '{STATEMENT_SECONDS}s'")
        at: datetime = now or query(connection, "select clock_timestamp()")[0][0]
        for rule in asked.values():
            if rule.kind in REMOTE and not remote:
                blind[rule.kind] = "not asked"
                continue
            try:
                found += list(_ask(settings, connection, rule, at))
            except (psycopg.Error, GranaryError) as error:
                blind[rule.kind] = reason(error) if isinstance(error, psycopg.Error) else str(error)
        try:
            kept = [Signal(*row) for row in query(connection, KEPT)]
            on = {one.kind for one in RULES} - asked.keys()
            found += [one for one in kept if one.kind not in on]
        except psycopg.Error as error:
            blind[KEPT_SIGNALS] = reason(error)
    return Look(at, tuple(replace(one, detail=one.detail[:DETAIL]) for one in found if _declared(one)), blind)


def _ask(settings: Settings, connection: Connection, rule: Rule, now: datetime) -> Iterator[Signal]:
    if rule.sql:
        parameters = (rule.threshold, now)[: 2 if "$2" in rule.sql else 1 if "$1" in rule.sql else 0]
        for subject, since, value, detail in query(connection, rule.sql, *parameters):
            number = None if value is None else float(value)
            yield Signal(rule.kind, subject, since, number, rule.threshold, rule.severity, "", detail or "")
    elif rule.kind in PROBES:
        yield from PROBES[rule.kind](settings, connection, rule, now)


def _declared(signal: Signal) -> bool:
    """Return whether the project still has what a signal is of; tables of other sources are for the record."""
    source, _, table = signal.subject.partition(".")
    if signal.kind not in OF_TABLES or source in BROKEN or source == DELIVERIES:
        return True
    spec = SOURCES.get(source)
    return spec is not None and (not table or table in {one.name for one in spec.tables} or spec.is_captured)


OF_TABLES = frozenset({"load_failed", "files_not_loaded", "schema_change", "quarantine_growing"})


def _late(settings: Settings, connection: Connection, rule: Rule, now: datetime) -> Iterator[Signal]:
    """Tables whose source has been silent, or whose newest data are old, for longer than the contract allows."""
    found = {(source, table): (at, newest) for source, table, at, _, newest, _ in query(connection, FRESHNESS)}
    is_over = last_date(settings) is not None
    for spec in SOURCES.values():
        for table in spec.tables:
            if (spec.name, table.name) not in found:
                continue
            at, newest = found[spec.name, table.name]
            newest = None if is_over else newest
            age = now - newest if newest else None
            one = Freshness(spec.name, table.name, at, now - at, table.freshness, newest, age)
            if one.is_late:
                since, late = (at, one.age) if one.is_silent or not (newest and age) else (newest, age)
                agreed = table.freshness + rest(since, late)
                hours, allowed = (span / timedelta(hours=1) for span in (late, agreed))
                name, words = f"{spec.name}.{table.name}", "nothing new" if one.is_silent else "what comes is old"
                last = f"{words} since {since.astimezone(timezone.utc):%F %R} UTC"
                yield Signal(rule.kind, name, since + agreed, hours, allowed, rule.severity, "", last)


def _replication(settings: Settings, _: Connection, rule: Rule, now: datetime) -> Iterator[Signal]:
    """Captured sources that raise an alarm: a slot that is lost or holds back too much, a copy that is too old."""
    for spec in SOURCES.values():
        if spec.capture is None:
            continue
        found = capture_status.status(settings, spec)
        if found.phase != "never captured" and found.alarms:
            words = "; ".join(found.alarms)
            yield Signal(rule.kind, spec.name, None, float(len(found.alarms)), None, rule.severity, "", words)


def _disk(settings: Settings, _: Connection, rule: Rule, now: datetime) -> Iterator[Signal]:
    """The disk of the warehouse's home."""
    disk = shutil.disk_usage(settings.home)
    share = disk.free / disk.total
    if rule.threshold is not None and share < rule.threshold:
        words = f"{disk.free / 1e9:,.1f} of {disk.total / 1e9:,.1f} GB are free"
        yield Signal(rule.kind, "the disk", None, share, rule.threshold, rule.severity, "", words)


PROBES: Mapping[str, Callable[[Settings, Connection, Rule, datetime], Iterator[Signal]]] = {
    "source_late": _late,
    "replication_lag": _replication,
    "disk_full": _disk,
}
REMOTE = frozenset({"replication_lag"})
