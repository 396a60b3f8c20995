"""Incidents: what one cause made fail or late, from when it was opened until it is over (`ops.incidents`).

One process at a time changes them. An incident goes on under another cause when the signals show one that lies further
upstream, or when that one is repaired and what it broke is not yet.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from granary.alerting.grouping import Graph, Group, groups
from granary.alerting.rules import rule_of
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import UsageError
from granary.warehouse.signals import Severity, Signal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.alerting.config import Config
    from granary.alerting.probes import Look
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

Transition = Literal["opened", "updated", "escalated", "closed"]
BACK_WITHIN = timedelta(hours=1)
"""A cause that is back so soon is the same incident; from then on it is over only when it was gone for as long."""
COLUMNS = (
    "incident_id, cause, severity, owner, signals, affected, since, opened_at, updated_at, told_at, times, acked_at,"
    " acked_by, muted_at, muted_until, escalated_at, gone_since, closed_at, part_of"
)
PUBLISHED = """
    select mart, max(finished_at)
    from ops.publishes
    cross join lateral unnest(marts) as mart
    where schema_name = 'marts'
    group by mart
"""


@dataclass(frozen=True)
class Affected:
    """A mart, a dashboard or another use, or a metric that the cause reaches, and when it was published last."""

    kind: Literal["mart", "use", "metric"]
    name: str
    published_at: datetime | None


@dataclass(frozen=True)
class Incident:
    """One cause with its signals, its own first. `times` is how often it came back, and once.

    `told` are the keys of the signals that people know of.
    """

    incident_id: int
    cause: str
    severity: Severity
    owner: str
    signals: tuple[Signal, ...]
    affected: tuple[Affected, ...]
    since: datetime
    opened_at: datetime
    updated_at: datetime
    told_at: datetime | None = None
    times: int = 1
    acked_at: datetime | None = None
    acked_by: str | None = None
    muted_at: datetime | None = None
    muted_until: datetime | None = None
    escalated_at: datetime | None = None
    gone_since: datetime | None = None
    closed_at: datetime | None = None
    part_of: int | None = None
    told: frozenset[tuple[str, str]] = frozenset()

    @property
    def news(self) -> frozenset[tuple[str, str]]:
        """The keys of the signals that nobody was told of yet, or that came anew since."""
        return frozenset(one.key for one in self.signals if one.key not in self.told or self._is_anew(one))

    def _is_anew(self, one: Signal) -> bool:
        recurs = rule_of(one.kind).recurs
        return bool(recurs and self.told_at and one.since and one.since > self.told_at)

    def tell(self, now: datetime) -> Incident:
        """Return it as it is once people were told of it."""
        return replace(self, told_at=now, told=frozenset(one.key for one in self.signals))

    def is_muted(self, now: datetime) -> bool:
        """Whether nobody is to be told now; a clock that was set back ends it."""
        return self.muted_at is not None and self.muted_until is not None and self.muted_at <= now < self.muted_until


@dataclass(frozen=True)
class Change:
    """What became of an incident that people are told of; its `news` are what they did not know."""

    transition: Transition
    incident: Incident


def update(connection: Connection, look: Look, graph: Graph, config: Config) -> list[Change]:
    """Bring the incidents up to what was seen; return what people are told of. The caller has the lock and commits."""
    open_ones = load(connection, "where closed_at is null order by incident_id")
    unseen = [one for incident in open_ones for one in incident.signals if look.is_blind(one.kind)]
    found = groups({one.key: one for one in (*unseen, *look.signals)}.values(), graph)
    ages = dict(query(connection, PUBLISHED))
    changes: list[Change] = []
    left = list(open_ones)
    causes = {one.cause for one in open_ones}
    for group in sorted(found, key=lambda one: one.cause not in causes):  # who has the cause goes before who shares
        before = _known(group, left) or _ending(group, left, {one.cause for one in found}, graph)
        if before is None:
            before = _closed_lately(connection, group, look.now)
        else:
            left.remove(before)
        changes += _go_on(connection, group, before, graph, ages, look.now, config)
    for incident in left:
        changes += _end(connection, incident, look.now)
    return changes


def _known(group: Group, open_ones: Sequence[Incident]) -> Incident | None:
    """Return the open incident that a group is about: of the same cause, else that with most signals in common.

    What only sums up makes nothing the same: what lowers a score today is not what lowered it before.
    """
    keys = {one.key for one in group.signals if not rule_of(one.kind).sums_up}
    shared = {one.incident_id: len(keys & {known.key for known in one.signals}) for one in open_ones}
    best = max(open_ones, key=lambda one: (one.cause == group.cause, shared[one.incident_id]), default=None)
    return best if best and (best.cause == group.cause or shared[best.incident_id]) else None


def _ending(group: Group, left: Sequence[Incident], causes: set[str], graph: Graph) -> Incident | None:
    """Return the open incident whose cause is repaired just now, if this lies below it: what it broke is not yet."""
    above = graph.upstream(group.cause)
    return next((one for one in left if one.cause in above and one.cause not in causes), None)


def _closed_lately(connection: Connection, group: Group, now: datetime) -> Incident | None:
    found = load(
        connection,
        "where cause = $1 and closed_at > $2 and part_of is null order by incident_id desc limit 1",
        group.cause,
        now - BACK_WITHIN,
    )
    return found[0] if found else None


def _go_on(
    connection: Connection,
    group: Group,
    before: Incident | None,
    graph: Graph,
    ages: Mapping[str, datetime],
    now: datetime,
    config: Config,
) -> list[Change]:
    """Open an incident, or have one go on."""
    severity: Severity = "critical" if any(one.severity == "critical" for one in group.signals) else "warning"
    known = {one.key: one for one in before.signals} if before else {}
    signals = tuple(replace(one, since=_since(one, known.get(one.key), now)) for one in group.signals)
    is_known = any(one.subject == group.cause for one in signals)
    owner = group.signals[0].owner or graph.owner(group.cause) or config.owner
    now_is = Incident(
        incident_id=before.incident_id if before else 0,
        cause=group.cause,
        severity=severity,
        owner=owner,
        signals=signals,
        affected=affected(graph, group.cause, ages),
        since=min(one.since or now for one in signals if one.subject == group.cause or not is_known),
        opened_at=now,
        updated_at=now,
    )
    if before is None:
        return [Change("opened", replace(now_is, incident_id=_insert(connection, now_is.tell(now))))]
    is_back = before.closed_at is not None
    went_on = replace(
        before,
        cause=group.cause,
        severity=severity,
        owner=owner,
        signals=signals,
        affected=now_is.affected,
        since=now_is.since if group.cause != before.cause else min(now_is.since, before.since),
        opened_at=min(before.opened_at, now),
        updated_at=now,
        times=before.times + is_back,
        gone_since=None,
        closed_at=None,
    )
    transition = _transition(before, went_on, now, config, is_back=is_back)
    if transition == "escalated":
        went_on = replace(went_on, escalated_at=now)
    _save(connection, went_on.tell(now) if transition else went_on)
    return [Change(transition, went_on)] if transition else []


def _transition(
    before: Incident, after: Incident, now: datetime, config: Config, *, is_back: bool
) -> Transition | None:
    """Return what is told of an incident that goes on, if anything."""
    if after.is_muted(now):
        return None
    is_worse = (before.severity, after.severity) == ("warning", "critical")
    if after.acked_at is None and after.escalated_at is None and passed(after.opened_at, now, config.escalate_after):
        return "escalated"
    if is_back or is_worse or (after.news and passed(after.told_at, now, config.update_after)):
        return "updated"
    if after.acked_at is None and passed(after.told_at, now, config.remind_after):
        return "updated"
    return None


def _end(connection: Connection, incident: Incident, now: datetime) -> list[Change]:
    """Close an incident that nothing shows any more; one that came back before has to be gone for a while."""
    if incident.times > 1 and not (incident.gone_since and passed(incident.gone_since, now, BACK_WITHIN)):
        _save(connection, replace(incident, gone_since=incident.gone_since or now, updated_at=now))
        return []
    keys = {one.key for one in incident.signals}
    other = next(
        (
            one
            for one in load(connection, "where closed_at is null and incident_id <> $1", incident.incident_id)
            if keys <= {known.key for known in one.signals}
        ),
        None,
    )
    closed = replace(incident, closed_at=now, updated_at=now, part_of=other.incident_id if other else None)
    _save(connection, closed)
    return [] if incident.is_muted(now) else [Change("closed", closed)]


def affected(graph: Graph, cause: str, ages: Mapping[str, datetime]) -> tuple[Affected, ...]:
    """Return what a cause reaches; a use or metric is as old as the oldest mart that it reads."""
    below = graph.downstream(cause)
    found = [Affected("mart", mart, ages.get(mart)) for mart in below.marts]
    for kind, names in (("use", below.uses), ("metric", below.metrics)):
        for name in names:
            of = [ages[mart] for mart in below.reads[name] if mart in ages]
            found.append(Affected(kind, graph.label(name), min(of, default=None)))  # type: ignore[arg-type]
    return tuple(found)


def passed(since: datetime | None, now: datetime, length: timedelta) -> bool:
    """Whether so much time has passed; where the clock was set back nobody knows, and it counts as passed."""
    return since is None or not timedelta(0) <= now - since < length


def _since(signal: Signal, known: Signal | None, now: datetime) -> datetime:
    """Return since when a condition holds: as long as anybody knows of; of one that recurs, since its last time."""
    if rule_of(signal.kind).recurs and signal.since:
        return signal.since
    times = [one.since for one in (signal, known) if one and one.since]
    return min(times, default=now)


def load(connection: Connection, condition: str, *parameters: object) -> list[Incident]:
    """Return incidents by an SQL condition and order."""
    return [_of_row(row) for row in query(connection, f"select {COLUMNS} from ops.incidents {condition}", *parameters)]


def open_incidents(settings: Settings) -> list[Incident]:
    """Return the incidents that are open, the gravest and oldest first; nothing is looked at anew."""
    with connect(settings) as connection:
        return load(connection, "where closed_at is null order by severity, opened_at")


def one(connection: Connection, incident_id: int) -> Incident:
    """Return an incident.

    Raises:
        UsageError: there is none of this number.
    """
    found = load(connection, "where incident_id = $1", incident_id)
    if not found:
        raise UsageError(f"there is no incident {incident_id}", "ops.incidents", "`granary incidents list` shows them")
    return found[0]


def ack(settings: Settings, incident_id: int, by: str) -> Incident:
    """Keep that somebody looks after an open incident: it is neither escalated nor told again until it is over.

    Raises:
        UsageError: there is none of this number, or it is over.
    """
    return _mark(settings, incident_id, "acked_at = now(), acked_by = $2", by)


def mute(settings: Settings, incident_id: int, length: timedelta) -> Incident:
    """Have nobody told of an open incident for some time; no time at all ends that.

    Raises:
        UsageError: there is none of this number, or it is over.
    """
    return _mark(settings, incident_id, "muted_at = now(), muted_until = now() + $2", length)


def _mark(settings: Settings, incident_id: int, change: str, value: object) -> Incident:
    with connect(settings) as connection:
        found = one(connection, incident_id)
        if found.closed_at:
            raise UsageError(f"incident {incident_id} is over since {found.closed_at:%Y-%m-%d %H:%M}")
        execute(connection, f"update ops.incidents set {change} where incident_id = $1", incident_id, value)
        changed = one(connection, incident_id)
        connection.commit()
        return changed


def _insert(connection: Connection, incident: Incident) -> int:
    values = _values(incident)[1:]
    names = COLUMNS.partition(", ")[2]
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    statement = f"insert into ops.incidents ({names}) values ({places}) returning incident_id"
    return int(query(connection, statement, *values)[0][0])


def _save(connection: Connection, incident: Incident) -> None:
    """Write what an evaluation may change; who acknowledged or muted it meanwhile is not undone."""
    execute(
        connection,
        "update ops.incidents set cause = $2, severity = $3, owner = $4, signals = $5, affected = $6, since = $7,"
        " opened_at = $8, updated_at = $9, told_at = $10, times = $11, escalated_at = $12, gone_since = $13,"
        " closed_at = $14, part_of = $15 where incident_id = $1",
        *_values(incident)[:11],
        incident.escalated_at,
        incident.gone_since,
        incident.closed_at,
        incident.part_of,
    )


def _values(incident: Incident) -> list[Any]:
    kept = {name.strip(): getattr(incident, name.strip()) for name in COLUMNS.split(",")}
    signals = [asdict(one) | {"is_told": one.key in incident.told} for one in incident.signals]
    reached = [asdict(one) for one in incident.affected]
    kept |= {"signals": json.dumps(signals, default=str), "affected": json.dumps(reached, default=str)}
    return list(kept.values())


def _of_row(row: tuple[Any, ...]) -> Incident:
    values = dict(zip((name.strip() for name in COLUMNS.split(",")), row, strict=True))
    values["told"] = frozenset(
        (part["kind"], part["subject"]) for part in values["signals"] if part.pop("is_told", False)
    )
    values["signals"] = tuple(Signal(**part | {"since": _time(part["since"])}) for part in values["signals"])
    values["affected"] = tuple(
        Affected(**part | {"published_at": _time(part["published_at"])}) for part in values["affected"]
    )
    return Incident(**values)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
