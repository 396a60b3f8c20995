"""The ledger of exports, `ops.exports`: what each left at its place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from granary.warehouse.connection import connect, execute, query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

Key = tuple[str, str, str]
"""Place, mart and format."""
KNOWN = """
    select role, partition_by, publish_id, version, parts from ops.exports
    where place = $1 and mart = $2 and format = $3
"""
KEEP = """
    insert into ops.exports (place, mart, format, role, partition_by, publish_id, version, parts, row_count)
    values ($1, $2, $3, $4, $5, $6, $7, $8::jsonb, $9)
    on conflict (place, mart, format) do update set
        role = excluded.role, partition_by = excluded.partition_by, publish_id = excluded.publish_id,
        version = excluded.version, parts = excluded.parts, row_count = excluded.row_count,
        exported_at = clock_timestamp()
"""
PURGED = "update ops.exports set purged_at = clock_timestamp() where place = $1 and mart = $2 and format = $3"
ALL = """
    select place, mart, format, role, partition_by, publish_id, row_count, jsonb_array_length(parts), exported_at::text,
        exists (select from ops.erasures as erased where coalesce(erased.finished_at > exports.purged_at, true))
    from ops.exports as exports order by place, mart, format
"""


@dataclass(frozen=True)
class Known:
    """What the last export of a mart to a place left there."""

    role: str
    partition_by: str | None
    publish_id: int
    version: str
    parts: Mapping[str | None, tuple[int, str]]


@dataclass(frozen=True)
class Export:
    """An export that there is; `stale` says that somebody was forgotten since its old versions were deleted."""

    place: str
    mart: str
    format: str
    role: str
    partition_by: str | None
    publish_id: int
    rows: int
    partitions: int
    exported_at: str
    stale: bool


def exports(settings: Settings) -> list[Export]:
    """Return the exports that the warehouse knows of."""
    with connect(settings) as connection:
        return [Export(*row) for row in query(connection, ALL)]


def last(owner: Connection, key: Key) -> Known | None:
    """Return what the last export left, None if there was none."""
    for role, partition_by, publish_id, version, parts in query(owner, KNOWN, *key):
        held = {part: (int(rows), str(digest)) for part, rows, digest in parts}
        return Known(str(role), partition_by, int(publish_id), str(version), held)
    return None


def keep(owner: Connection, key: Key, left: Known, *, purged: bool) -> None:
    """Remember what an export left; with `purged`, that nothing of earlier versions is there any more."""
    held = json.dumps([[part, rows, digest] for part, (rows, digest) in left.parts.items()])
    total = sum(rows for rows, _ in left.parts.values())
    execute(owner, KEEP, *key, left.role, left.partition_by, left.publish_id, left.version, held, total)
    if purged:
        execute(owner, PURGED, *key)
