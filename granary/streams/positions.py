"""Positions of logs in a table's watermark, and the offsets of messages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from granary.warehouse.connection import query

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from granary.streams.log import Message, Positions
    from granary.warehouse.connection import Connection


def of_kind(watermark: str | None, kind: str) -> Positions:
    """Return the positions of one kind of log in a table's watermark: {"kafka:redemptions[0]": "17"} and the like."""
    every: dict[str, str] = json.loads(watermark) if watermark else {}
    return {name.partition(":")[2]: position for name, position in every.items() if name.partition(":")[0] == kind}


def moved(watermark: str | None, kind: str, partition: str, position: str) -> str:
    """Return a table's watermark with one partition moved."""
    every: dict[str, str] = json.loads(watermark) if watermark else {}
    return json.dumps(every | {f"{kind}:{partition}": position}, sort_keys=True)


def watermark_of(connection: Connection, source: str, table: str) -> str | None:
    """Return a table's watermark, or None before its first batch."""
    rows = query(connection, "select value from ops.watermarks where source = $1 and table_name = $2", source, table)
    return str(rows[0][0]) if rows else None


def without_gaps(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Yield runs of messages whose offsets follow on each other: compaction and transactions leave gaps."""
    start = 0
    for index in range(1, len(messages)):
        before, line = messages[index - 1].line, messages[index].line
        if before is not None and line != before + 1:
            yield messages[start:index]
            start = index
    if messages:
        yield messages[start:]
