"""The queue of what is told, `ops.alerts`: written with the incident in one transaction, and sent until it was taken.

Whoever sends an alert holds its row meanwhile, so several processes share the work. One that is killed between sending
and its commit sends again, with the same key.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

from granary.alerting.message import Message, message
from granary.alerting.senders import NotSentError, send
from granary.warehouse import faults
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from granary.alerting.config import Config
    from granary.alerting.incidents import Change
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=15), timedelta(hours=1)
"""How long after the first failure an alert is sent again, twice as long after each further one; and at most."""
TAKE = """
    select alert_id, channel, message, attempts
    from ops.alerts as mine
    where
        sent_at is null and channel = any($1) and (due_at <= $2 or due_at > $2 + $3)
        and not exists (
            select from ops.alerts as earlier
            where
                earlier.incident_id = mine.incident_id and earlier.channel = mine.channel
                and earlier.sent_at is null and earlier.alert_id < mine.alert_id
        )
    order by alert_id
    limit 1
    for update skip locked
"""
"""The first that is due of each incident in a channel. What is due later than the longest wait was put off by a clock
that went wrong."""
WAITING = """
    select channel, count(*), min(due_at), (array_agg(error order by attempts desc))[1]
    from ops.alerts
    where sent_at is null
    group by channel
    order by channel
"""


@dataclass(frozen=True)
class Waiting:
    """What waits for a channel: how many alerts, when the first is tried again, and why the last attempt failed."""

    channel: str
    alerts: int
    due_at: datetime
    error: str


def put(connection: Connection, changes: Iterable[Change], now: datetime, config: Config) -> None:
    """Put what is told of changes into the queue, in place of older updates that wait; the caller commits."""
    for change in changes:
        incident = change.incident
        told = config.told(incident.severity, incident.owner, escalated=incident.escalated_at is not None)
        if change.transition == "closed":
            told = tuple(dict.fromkeys([*told, *_told_before(connection, incident.incident_id, config)]))
        for channel in told:
            key = str(uuid4())
            execute(
                connection,
                "delete from ops.alerts where alert_id in (select alert_id from ops.alerts where incident_id = $1"
                " and channel = $2 and transition = 'updated' and sent_at is null for update skip locked)",
                incident.incident_id,
                channel,
            )
            execute(
                connection,
                "insert into ops.alerts (incident_id, transition, channel, key, message, created_at, due_at)"
                " values ($1, $2, $3, $4, $5, $6, $6)",
                incident.incident_id,
                change.transition,
                channel,
                key,
                json.dumps(message(change, key, now, config).dump()),
                now,
            )


def _told_before(connection: Connection, incident_id: int, config: Config) -> list[str]:
    """Return the channels that know of an incident: they are told of its end, too."""
    found = query(connection, "select distinct channel from ops.alerts where incident_id = $1 order by 1", incident_id)
    return [name for (name,) in found if name in config.channels]


def deliver(settings: Settings, config: Config, *, now: datetime | None = None) -> int:
    """Send what is due; a channel that fails is left alone until its next turn. Return how many were taken.

    Raises:
        GranaryError: the warehouse does not answer.
    """
    sent = 0
    well = set(config.channels)
    with closing(connect(settings)) as connection:
        at: datetime = now or query(connection, "select clock_timestamp()")[0][0]
        while well and (found := query(connection, TAKE, sorted(well), at, LONGEST_WAIT)):
            alert_id, channel, text, attempts = found[0]
            try:
                send(settings, config.channels[channel], Message.load(text))
            except GranaryError as error:
                well.discard(channel)
                _put_off(connection, alert_id, attempts + 1, error, at)
            else:
                faults.fault_point("alert-sent")
                execute(
                    connection,
                    "update ops.alerts set sent_at = $2, attempts = attempts + 1, error = null where alert_id = $1",
                    alert_id,
                    at,
                )
                sent += 1
            connection.commit()
    return sent


def _put_off(connection: Connection, alert_id: int, attempts: int, error: GranaryError, now: datetime) -> None:
    wait = min(FIRST_WAIT * 2 ** min(attempts - 1, 10), LONGEST_WAIT)
    if isinstance(error, NotSentError) and error.wait is not None:
        wait = min(max(wait, timedelta(seconds=error.wait)), LONGEST_WAIT)
    execute(
        connection,
        "update ops.alerts set attempts = $2, error = $3, due_at = $4 where alert_id = $1",
        alert_id,
        attempts,
        str(error),
        now + wait,
    )


@dataclass(frozen=True)
class Told:
    """An alert of an incident: what was told in which channel, and when it was taken, or why it was not."""

    transition: str
    channel: str
    sent_at: datetime | None
    error: str | None


def told(connection: Connection, incident_id: int) -> list[Told]:
    """Return what was told of an incident, or waits, in order."""
    sql = "select transition, channel, sent_at, error from ops.alerts where incident_id = $1 order by alert_id"
    return [Told(*row) for row in query(connection, sql, incident_id)]


def waiting(settings: Settings) -> list[Waiting]:
    """Return what waits to be sent, by channel."""
    with connect(settings) as connection:
        return [Waiting(name, count, due, error or "") for name, count, due, error in query(connection, WAITING)]
