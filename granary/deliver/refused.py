"""Rows that targets refused, as entries of the quarantine: listed, replayed and dropped as those of sources are.

They stay in `ops.delivered_rows`, where only the owner and dbt read rows: a second copy in `ops.quarantine`, which
loaders read, would show values of marts to who may not see them, and erasures would have to find it. What both have is
the numbers. An entry is closed when the target takes the row, when the mart has another one, or when somebody was
forgotten; then it is gone, and the ledger of batches and the audit trail say what became of it.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import psycopg

from granary.deliver.deliver import deliver
from granary.deliver.discovery import PACKAGE, find
from granary.quarantine.replay import Entry, Replayed
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.json_text import decode
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

ENTRIES = """
    select
        rows.quarantine_id, rows.delivery, known.target, rows.reason,
        jsonb_build_object('op', rows.op, 'key', rows.key::jsonb, 'row', rows.payload)::text,
        case when rows.is_dropped then 'dropped' else 'open' end, rows.first_refused_at, rows.refused_at
    from ops.delivered_rows as rows
    inner join ops.deliveries as known on known.delivery = rows.delivery
    where
        rows.reason is not null
        and ($1::bigint[] is null or rows.quarantine_id = any($1::bigint[]))
        and ($2::text[] is null or rows.delivery = any($2::text[]))
        and ($3::text is null or $3 = case when rows.is_dropped then 'dropped' else 'open' end)
    order by rows.quarantine_id
    limit $4::bigint
"""
REASONS = "select quarantine_id, reason from ops.delivered_rows where quarantine_id = any($1::bigint[])"
DROP = """
    update ops.delivered_rows set is_dropped = true
    where quarantine_id = any($1::bigint[]) and reason is not null and not is_dropped
    returning delivery
"""
NOTE = "select ops.note($1, $2, $3, null::jsonb)"
GONE = "is not refused any more: its mart has another row now, or somebody in it was forgotten"


def entries(
    settings: Settings,
    ids: Sequence[int] = (),
    *,
    names: Collection[str] | None = None,
    status: str | None = "open",
    limit: int | None = None,
) -> list[Entry] | None:
    """Return entries by their numbers, or by delivery and status, in the order in which they came.

    Their source is "deliveries", their table the delivery and their unit its target. An id that is none of a delivery
    is left out.

    Returns:
        The entries; None where the login may not read them.
    """
    wanted = None if ids else status
    try:
        with connect(settings) as owner:
            rows = query(owner, ENTRIES, list(ids) or None, None if names is None else list(names), wanted, limit)
    except psycopg.errors.InsufficientPrivilege:
        return None
    return [
        Entry(number, PACKAGE, delivery, target, 0, None, "", reason, decode(payload), 0, 0, state, first, last)
        for number, delivery, target, reason, payload, state, first, last in rows
    ]


def replay(settings: Settings, chosen: Sequence[Entry]) -> list[Replayed]:
    """Send refused rows to their targets once more, after what waits; each is taken once, or stays with the reason.

    Raises:
        GranaryError: a delivery is not declared any more, or its target does not answer or refuses us.
    """
    done = []
    by_name = sorted(chosen, key=lambda entry: (entry.table, entry.quarantine_id))
    for name, group in groupby(by_name, key=lambda entry: entry.table):
        numbers = [entry.quarantine_id for entry in group]
        again = deliver(settings, find(name), refused=numbers).again
        with connect(settings) as owner:
            still = _refused(owner, numbers)
            taken = tuple(number for number in again if number not in still)
            if taken:
                execute(owner, NOTE, "quarantine replayed", f"{PACKAGE}.{name}", f"{plural(len(taken), 'row')}")
            owner.commit()
        left = tuple((number, still.get(number, GONE)) for number in numbers if number not in taken)
        done.append(Replayed(PACKAGE, name, taken, left))
    return done


def drop(settings: Settings, ids: Sequence[int]) -> int:
    """Give rows up: they are not replayed any more, and sent only if they change. Returns how many were open."""
    with connect(settings) as owner:
        dropped = [str(name) for (name,) in query(owner, DROP, list(ids))]
        for name in sorted(set(dropped)):
            execute(owner, NOTE, "quarantine dropped", f"{PACKAGE}.{name}", f"{dropped.count(name)} rows")
        owner.commit()
    return len(dropped)


def _refused(owner: Connection, numbers: Sequence[int]) -> dict[int, str]:
    """Return which numbers are refused rows, and why."""
    found = {int(number): reason for number, reason in query(owner, REASONS, list(numbers))}
    return {number: str(reason) for number, reason in found.items() if reason is not None}
