"""The ledger of deliveries in `ops`: how far each is, its batches, and the rows that wait or were refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from granary.warehouse import published
from granary.warehouse.connection import connect, execute, query

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

KNOWN = "select target, token, publish_id, shows, erasures, columns, last_batch from ops.deliveries where delivery = $1"
KEEP = """
    insert into ops.deliveries (delivery, target, publish_id, shows, erasures, columns)
    values ($1, $2, $3, $4, $5, $6::jsonb)
    on conflict (delivery) do update set
        target = excluded.target, publish_id = excluded.publish_id, shows = excluded.shows,
        erasures = excluded.erasures, columns = excluded.columns
"""
STATES = """
    select
        known.delivery, known.target, known.publish_id, known.delivered_at::text, known.failed_at::text, known.error,
        known.publish_id < (select max(publish_id) from ops.publishes where schema_name = 'marts'),
        (select count(*) from ops.delivered_rows as rows where rows.delivery = known.delivery and batch is not null),
        (
            select count(*) from ops.delivered_rows as rows
            where rows.delivery = known.delivery and reason is not null and not is_dropped
        )
    from ops.deliveries as known order by known.delivery
"""
OPEN = """
    select batch, publish_id, digest, status, position from ops.delivery_batches
    where delivery = $1 and status in ('waiting', 'sending', 'apart') order by batch
"""
ROWS = """
    select op, key, payload::text from ops.delivered_rows where delivery = $1 and batch = $2
    order by op <> 'delete', key collate "C"
"""
BEGIN = """
    update ops.delivery_batches set
        status = case status when 'apart' then 'apart' else $3 end, position = coalesce(position, $4),
        started_at = coalesce(started_at, clock_timestamp())
    where delivery = $1 and batch = $2
"""
REFUSE = """
    update ops.delivered_rows set
        batch = null, reason = $3, refused_at = clock_timestamp(),
        first_refused_at = coalesce(first_refused_at, clock_timestamp()),
        quarantine_id = coalesce(quarantine_id, nextval(pg_get_serial_sequence('ops.quarantine', 'quarantine_id')))
    where delivery = $1 and key = $2
"""
"""A row that is refused again keeps the number that it has in the quarantine."""
TAKEN = """
    delete from ops.delivered_rows
    where delivery = $1 and batch = $2 and op = 'delete' and ($3::text is null or key = $3)
"""
THERE = """
    update ops.delivered_rows set
        batch = null, op = null, payload = null, reason = null, refused_at = null, is_there = true,
        quarantine_id = null, first_refused_at = null, is_dropped = false
    where delivery = $1 and batch = $2 and ($3::text is null or key = $3)
"""
SENT = """
    update ops.delivery_batches set status = 'sent', refused = (
        select count(*) from ops.delivered_rows as rows
        where rows.delivery = $1 and rows.reason is not null and rows.refused_at >= coalesce(started_at, taken_at)
    ), ended_at = clock_timestamp()
    where delivery = $1 and batch = $2
"""
WITHDRAW = (
    "update ops.delivery_batches set status = 'withdrawn', ended_at = clock_timestamp()"
    " where delivery = $1 and status in ('waiting', 'sending', 'apart')",
    "update ops.delivered_rows set digest = null, is_there = true, batch = null, op = null, payload = null,"
    " reason = null, refused_at = null, quarantine_id = null, first_refused_at = null, is_dropped = false"
    " where delivery = $1 and (batch is not null or reason is not null)",
)
"""What waits, or was refused, is not sent any more; the target may have it, and is told again what it is to have."""


@dataclass(frozen=True)
class Known:
    """How far a delivery is."""

    target: str
    token: str
    publish_id: int
    shows: int
    erasures: str
    columns: Mapping[str, str]
    last_batch: int


@dataclass(frozen=True)
class State:
    """What `granary deliver` lists: `waiting` rows are taken and not sent; `is_behind`: there is a newer publish."""

    delivery: str
    target: str
    publish_id: int
    delivered_at: str | None
    failed_at: str | None
    error: str | None
    is_behind: bool
    waiting: int
    refused: int


@dataclass(frozen=True)
class Row:
    """A row to be inserted, updated or deleted: its key and, unless deleted, itself as JSON objects."""

    op: str
    key: str = field(repr=False)
    payload: str | None = field(repr=False)


@dataclass(frozen=True)
class Batch:
    """Rows that are sent together. `id` is the same however often they are sent, and that of no other rows."""

    delivery: str
    number: int
    publish_id: int
    id: str
    status: str
    position: str | None
    rows: tuple[Row, ...] = field(repr=False)


def known(owner: Connection, name: str) -> Known | None:
    """Return how far a delivery is, None before its first time."""
    rows = query(owner, KNOWN, name)
    return Known(*rows[0]) if rows else None


def keep(
    owner: Connection, name: str, target: str, publish: tuple[int, int], erasures: str, columns: Mapping[str, str]
) -> None:
    """Remember what was taken: the publish by its number, and the one that the marts are as."""
    execute(owner, KEEP, name, target, *publish, erasures, json.dumps(columns))


def states(settings: Settings) -> list[State]:
    """Return how far every delivery is that was ever begun."""
    with connect(settings) as owner:
        return [State(*row) for row in query(owner, STATES)]


def open_batches(owner: Connection, name: str) -> list[tuple[int, int, str, str, str | None]]:
    """Return of each batch that is not sent its number, publish, digest, status and position, in order."""
    return [tuple(row) for row in query(owner, OPEN, name)]


def batch(owner: Connection, name: str, token: str, record: tuple[int, int, str, str, str | None]) -> Batch:
    """Return a batch with its rows."""
    number, publish_id, digest, status, position = record
    rows = tuple(Row(*row) for row in query(owner, ROWS, name, number))
    return Batch(name, number, publish_id, f"{token[:12]}-{number}-{digest[:16]}", status, position, rows)


def begin(owner: Connection, one: Batch, position: str | None, *, apart: bool = False) -> None:
    """Remember that a batch is about to be sent, and where its target ended before."""
    execute(owner, BEGIN, one.delivery, one.number, "apart" if apart else "sending", position)
    owner.commit()


def settle_row(owner: Connection, one: Batch, row: Row, reason: str | None) -> None:
    """Remember that the target has taken one row of a batch, or refuses it."""
    if reason is None:
        for statement in (TAKEN, THERE):
            execute(owner, statement, one.delivery, one.number, row.key)
    else:
        execute(owner, REFUSE, one.delivery, row.key, reason)
    owner.commit()


def settle(owner: Connection, one: Batch, refused: Iterable[tuple[Row, str]]) -> None:
    """Remember that the target has taken a batch but for what it refuses."""
    for row, reason in refused:
        execute(owner, REFUSE, one.delivery, row.key, reason)
    for statement in (TAKEN, THERE):
        execute(owner, statement, one.delivery, one.number, None)
    execute(owner, SENT, one.delivery, one.number)


def ended(owner: Connection, name: str, error: str | None) -> None:
    """Remember how a delivery ended."""
    execute(
        owner,
        "update ops.deliveries set error = $2, delivered_at = case when $2::text is null then clock_timestamp() else"
        " delivered_at end, failed_at = case when $2::text is not null then coalesce(failed_at, clock_timestamp()) end"
        " where delivery = $1",
        name,
        error,
    )
    owner.commit()


def withdraw(owner: Connection, name: str) -> None:
    """Take back what waits or was refused: somebody in it may have been forgotten."""
    for statement in WITHDRAW:
        execute(owner, statement, name)


def forgotten(settings: Settings) -> list[tuple[str, str]]:
    """Return the deliveries, with their targets, that may hold somebody who was forgotten since they ran last.

    What waits in them, or was refused, is taken back with its values: only keys stay, by which the next delivery has
    rows deleted at the target.
    """
    with connect(settings) as owner:
        stale = query(
            owner,
            "select delivery, target from ops.deliveries where erasures <> $1 order by 1",
            published.erasures(owner),
        )
        for name, _ in stale:
            withdraw(owner, name)
        owner.commit()
    return [(str(name), str(target)) for name, target in stale]
