"""What is kept in `ops` of backups and drills: by it people are told when one is missing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from granary.warehouse.connection import connect, execute, query

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from granary.backup.config import Config
    from granary.warehouse.settings import Settings

KEEP_STATE = """
    insert into ops.backup_state as held (place, every_seconds, drill_seconds, log_at, problem)
    values ($1, $2, $3, $4, $5)
    on conflict (place) do update set
        every_seconds = excluded.every_seconds, drill_seconds = excluded.drill_seconds,
        log_at = coalesce(excluded.log_at, held.log_at), problem = excluded.problem, seen_at = excluded.seen_at
"""
LAST = """
    select max(finished_at) filter (where kind <> 'drill'), max(finished_at) filter (where kind = 'drill')
    from ops.backups where place = $1 and (succeeded or kind = 'drill')
"""


def keep(
    settings: Settings,
    kind: str,
    name: str,
    place: str,
    started: str,
    *,
    succeeded: bool,
    size: int | None = None,
    detail: Mapping[str, object] | None = None,
) -> None:
    """Keep that a backup was made, or a drill, and how it ended."""
    with connect(settings) as connection:
        execute(
            connection,
            "insert into ops.backups (kind, name, place, started_at, succeeded, byte_count, detail)"
            " values ($1, $2, $3, $4::timestamptz, $5, $6, $7::jsonb)",
            kind,
            name,
            place,
            started,
            succeeded,
            size,
            json.dumps(detail or {}, default=str),
        )
        connection.commit()


def keep_state(settings: Settings, config: Config, place: str, log_at: str | None, problem: str = "") -> None:
    """Keep up to when the log is stored, and what is agreed; other destinations are no longer looked after."""
    with connect(settings) as connection:
        execute(connection, "delete from ops.backup_state where place <> $1", place)
        every, drill = config.every.total_seconds(), config.drill_every.total_seconds()
        execute(connection, KEEP_STATE, place, every, drill, log_at, problem)
        connection.commit()


def forget_state(settings: Settings) -> None:
    """Have nobody be told of backups any more: none are configured."""
    with connect(settings) as connection:
        execute(connection, "delete from ops.backup_state")
        connection.commit()


def last(settings: Settings, place: str) -> tuple[datetime | None, datetime | None]:
    """Return when the last backup was complete, and when the last drill ended."""
    with connect(settings) as connection:
        ((backup, drill),) = query(connection, LAST, place)
    return backup, drill
