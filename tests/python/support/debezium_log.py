"""Messages as Debezium writes them, of a table whose truth is known (the shapes are those of its documentation)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pyarrow as pa

from granary.sources.capture import CapturedReader
from granary.sources.spec import Column, Source, Stream, Table

ADDRESS = "GRANARY_CDC_STREAM"
Row = dict[str, Any]

ITEMS = Table(
    name="items",
    description="What there is.",
    location="public.items",
    disposition="merge",
    key=("id",),
    freshness=timedelta(days=1),
    columns=(
        Column("id", pa.int64(), "Key.", nullable=False),
        Column("name", pa.string(), "Name.", nullable=False),
        Column("price", pa.decimal128(12, 2), "Price.", minimum=0),
    ),
)


def source(*tables: Table, topics: dict[str, str] | None = None, name: str = "cdc") -> Source:
    """Return a source whose tables come as envelopes."""
    return Source(
        name=name,
        description="A database of somebody.",
        owner="tests",
        kind="database",
        settings=(ADDRESS,),
        open_reader=lambda _: CapturedReader(),
        tables=tables,
        stream=Stream(topics or {table.name: table.name for table in tables}, ADDRESS, envelope="debezium"),
    )


SCHEMA = {
    "type": "struct",
    "fields": [
        {"field": "id", "type": "int64", "optional": False},
        {"field": "name", "type": "string", "optional": True},
        {
            "field": "price",
            "type": "bytes",
            "optional": True,
            "name": "org.apache.kafka.connect.data.Decimal",
            "parameters": {"scale": "2", "connect.decimal.precision": "12"},
        },
    ],
}
"""The columns of `ITEMS` as Kafka Connect tells them."""


def with_schema(envelope: Row, row_schema: Row = SCHEMA) -> Row:
    """Return an envelope as the JSON converter writes it with `schemas.enable`."""
    parts = [row_schema | {"field": name, "optional": True} for name in ("before", "after")]
    return {"schema": {"type": "struct", "name": "shop.public.items.Envelope", "fields": parts}, "payload": envelope}


@dataclass
class PostgresLog:
    """A database that writes its log: each change has an LSN, and knows the LSN of the last commit."""

    lsn: int = 1_000
    committed: int | None = None
    xid: int = 500
    rows: dict[int, Row] = field(default_factory=dict)
    written: list[Row | None] = field(default_factory=list)
    """All messages since the connector was begun, a tombstone is None."""

    def source(self, **more: Any) -> Row:
        """Return the block that says where a change lies."""
        sequence = json.dumps([None if self.committed is None else str(self.committed), str(self.lsn)])
        return {
            "version": "3.0.0.Final",
            "connector": "postgresql",
            "name": "shop",
            "ts_ms": 1_700_000_000_000 + self.xid,
            "snapshot": "false",
            "db": "shop",
            "sequence": sequence,
            "schema": "public",
            "table": "items",
            "txId": self.xid,
            "lsn": self.lsn,
        } | more

    def envelope(self, op: str, before: Row | None, after: Row | None, **more: Any) -> Row:
        """Return a message, and keep it."""
        self.lsn += 8
        found = {"before": before, "after": after, "source": self.source(**more), "op": op, "ts_ms": 1}
        found["transaction"] = {"id": f"{self.xid}:{self.lsn}", "total_order": 1, "data_collection_order": 1}
        self.written.append(found)
        return found

    def snapshot(self) -> None:
        """Copy every row, all at one place of the log."""
        self.lsn += 8
        self.committed = None
        last = len(self.rows)
        for place, row in enumerate(self.rows.values(), 1):
            flag = "last" if place == last else "first" if place == 1 else "true"
            self.written.append({"before": None, "after": dict(row), "source": self.source(snapshot=flag), "op": "r"})

    def put(self, row: Row) -> None:
        """Insert or update a row."""
        op = "u" if row["id"] in self.rows else "c"
        self.rows[row["id"]] = row
        self.envelope(op, None, dict(row))

    def delete(self, key: int) -> None:
        """Delete a row; the message is followed by a tombstone."""
        del self.rows[key]
        self.envelope("d", {"id": key, "name": "", "price": None}, None)
        self.written.append(None)

    def commit(self) -> None:
        """End a transaction."""
        self.lsn += 8
        self.committed = self.lsn
        self.xid += 1
