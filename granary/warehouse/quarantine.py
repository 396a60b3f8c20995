"""What contracts refused: rows and files, as they were received, until they are replayed, dropped or delivered anew."""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from datetime import date, datetime
from decimal import Decimal
from hashlib import sha256
from math import isfinite
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.warehouse.binary_copy import copy_into_new
from granary.warehouse.connection import execute, query, quote_name
from granary.warehouse.json_text import digits
from granary.warehouse.records import LOAD_ID, Refusal, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from granary.warehouse.binary_copy import copy_into_new
from granary.warehouse.connection import Connection


def keep(
    connection: Connection,
    source: str,
    table: str,
    contract: int,
    refused: Iterable[tuple[str, bool, int, Refusal]],
    status: str = "open",
    *,
    once: bool = False,
) -> None:
    """Keep refused rows as they were received: (unit, whether its rows have lasting places, load id, refusal).

    With the status "failed" they are those of units that did not land at all, kept to be looked at.

    A row that is still refused keeps its entry, and with it when it was first seen. It is known by its content and
    by its place, if that lasts: a line of a file or an offset does, a row's number in a cursor window does not. Where
    the caller sees to it that each row comes `once`, each is an entry of its own, whatever others hold.
    """
    names = ("identity", "load_id", "source", "table_name", "unit", "row_number", "line", "column_name", "reason")
    seen: Counter[str] = Counter()
    rows = []
    for unit, lasting, load_id, refusal in refused:
        payload = json_text(refusal.payload)
        place = (unit, refusal.row, refusal.line) if lasting else (load_id, refusal.row) if once else ()
        identity = sha256(repr((place, refusal.column, refusal.reason, payload)).encode()).hexdigest()
        seen[identity] += 1
        rows.append(
            (
                f"{identity}:{seen[identity]}",
                load_id,
                source,
                table,
                unit,
                refusal.row,
                refusal.line,
                refusal.column,
                refusal.reason,
                payload,
            )
        )
    if not rows:
        return
    columns = [
        pa.array(values, pa.int64() if name in ("load_id", "row_number", "line") else pa.string())
        for name, values in zip([*names, "payload"], zip(*rows, strict=True), strict=True)
    ]
    batch = pa.RecordBatch.from_arrays(columns, names=[*names, "payload"])
    copy_into_new(connection, "refused_rows", batch.schema, [batch])
    execute(
        connection,
        f"insert into ops.quarantine"
        f" ({', '.join(names)}, payload, contract_version, status, first_seen_at, last_seen_at)"
        f" select {', '.join(names)}, payload::jsonb, {int(contract)}, $1, now(), now() from refused_rows"
        " on conflict (source, table_name, identity) where status = 'open' do update set"
        " load_id = excluded.load_id, unit = excluded.unit, row_number = excluded.row_number,"
        " contract_version = excluded.contract_version, last_seen_at = clock_timestamp()",
        status,
    )
    execute(connection, "drop table refused_rows")


def close_unit(connection: Connection, source: str, table: str, unit: str, *, rows: bool = False) -> None:
    """Close what is said of a unit as a whole: it is readable after all; or, with `rows`, all that is said of it."""
    execute(
        connection,
        "update ops.quarantine set status = 'superseded' where source = $1 and table_name = $2 and unit = $3"
        f" and status = 'open'{'' if rows else ' and row_number = 0'}",
        source,
        table,
        unit,
    )


def forget_failed(connection: Connection, source: str, table: str, unit: str) -> None:
    """Remove the rows of a unit's last failed load: it fails again, lands or is withdrawn."""
    execute(
        connection,
        "delete from ops.quarantine where source = $1 and table_name = $2 and unit = $3 and status = 'failed'",
        source,
        table,
        unit,
    )


def settle(connection: Connection, target: Target, replaced: Iterable[str], load_ids: Sequence[int]) -> None:
    """Close entries of the quarantine that this load made void.

    That is what units held that were now delivered anew, and rows whose key has now arrived in good order.
    """
    table = target.source, target.table
    mine = "source = $1 and table_name = $2 and status in ('open', 'failed')"
    if not load_ids or not query(connection, f"select 1 from ops.quarantine where {mine} limit 1", *table):
        return
    ids = ", ".join(str(int(load_id)) for load_id in load_ids)
    for unit in replaced:
        execute(
            connection,
            f"update ops.quarantine set status = 'superseded' where {mine} and unit = $3 and load_id not in ({ids})",
            *table,
            unit,
        )
    if target.key:
        same = " and ".join(f"r.{quote_name(name)}::text = q.payload ->> ${3 + n}" for n, name in enumerate(target.key))
        execute(
            connection,
            f"update ops.quarantine as q set status = 'superseded' where {mine} and exists"
            f" (select 1 from {target.sql_name} as r where r.{LOAD_ID} in ({ids}) and {same})",
            *table,
            *target.key,
        )


def json_text(payload: object) -> str:
    """Return a refused row as JSON that jsonb can hold: no NUL, no lone surrogate, no NaN; bytes as base64."""
    return _written(payload)


def _written(value: Any) -> str:  # noqa: PLR0911 - one type, one line
    """Return a value as JSON; numbers keep their digits, and what JSON does not have becomes text."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_written(str(name))}: {_written(part)}' for name, part in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _written({"base64": b64encode(value).decode()})
    if isinstance(value, str):
        return json.dumps(value.replace("\0", "\ufffd").encode("utf-8", "replace").decode())
    if isinstance(value, (datetime, date)):
        return json.dumps(value.isoformat())
    if isinstance(value, Decimal) and value.is_finite():
        return digits(value)
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and isfinite(value)):
        return json.dumps(value)
    return _written(str(value))
