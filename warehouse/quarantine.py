"""What contracts refused: rows and files, as they were received, until they are replayed, dropped or delivered anew."""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from datetime import date, datetime
from hashlib import sha256
from math import isfinite
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from warehouse.connection import count, execute, query, quote_name
from warehouse.errors import GranaryError
from warehouse.records import LOAD_ID, Refusal, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from warehouse.connection import Connection


def keep(
    connection: Connection, source: str, table: str, contract: int, refused: Iterable[tuple[str, bool, int, Refusal]]
) -> None:
    """Keep refused rows as they were received: (unit, whether its rows have lasting places, load id, refusal).

    A row that is still refused keeps its entry, and with it when it was first seen. It is known by its content and
    by its place, if that lasts: a line of a file or an offset does, a row's number in a cursor window does not.
    """
    names = ("identity", "load_id", "source", "table_name", "unit", "row_number", "line", "column_name", "reason")
    seen: Counter[str] = Counter()
    rows = []
    for unit, lasting, load_id, refusal in refused:
        payload = json_text(refusal.payload)
        place = (unit, refusal.row, refusal.line) if lasting else ()
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
    with connection.cursor() as cursor:
        cursor.adbc_ingest("refused_rows", pa.table(columns, names=[*names, "payload"]), mode="create", temporary=True)
    execute(
        connection,
        f"insert into ops.quarantine ({', '.join(names)}, payload, contract_version, first_seen_at, last_seen_at)"
        f" select {', '.join(names)}, payload::jsonb, {int(contract)}, now(), now() from refused_rows"
        " on conflict (source, table_name, identity) where status = 'open' do update set"
        " load_id = excluded.load_id, unit = excluded.unit, row_number = excluded.row_number,"
        " contract_version = excluded.contract_version, last_seen_at = clock_timestamp()",
    )
    execute(connection, "drop table refused_rows")


def restore(connection: Connection, source: str, table: str, unit: str) -> None:
    """Close what is said of a unit's damaged delivery: the content that was loaded before it is back."""
    execute(
        connection,
        "update ops.load_audit set superseded_by = load_id where source = $1 and table_name = $2 and unit = $3"
        " and status = 'unreadable' and superseded_by is null",
        source,
        table,
        unit,
    )
    execute(
        connection,
        "update ops.quarantine set status = 'superseded' where source = $1 and table_name = $2 and unit = $3"
        " and status = 'open' and row_number = 0",
        source,
        table,
        unit,
    )


def settle(connection: Connection, target: Target, replaced: Iterable[str], load_ids: Sequence[int]) -> int:
    """Close entries of the quarantine that this load made void, and return how many.

    That is what units held that were now delivered anew, and rows whose key has now arrived in good order.
    """
    units = list(replaced)
    if not query(
        connection,
        "select 1 from ops.quarantine where source = $1 and table_name = $2 and status = 'open' limit 1",
        target.source,
        target.table,
    ):
        return 0
    mine = f"source = {_literal(target.source)} and table_name = {_literal(target.table)} and status = 'open'"
    ids = ", ".join(str(int(load_id)) for load_id in load_ids) or "null"
    closed = 0
    if units:
        names = ", ".join(map(_literal, units))
        closed += count(
            connection,
            f"update ops.quarantine set status = 'superseded' where {mine} and unit in ({names})"
            f" and load_id not in ({ids})",
        )
    if target.key and load_ids:
        same = " and ".join(f"r.{quote_name(n)}::text = q.payload ->> {_literal(n)}" for n in target.key)
        closed += count(
            connection,
            f"update ops.quarantine as q set status = 'superseded' where {mine} and exists"
            f" (select 1 from {target.sql_name} as r where r.{LOAD_ID} in ({ids}) and {same})",
        )
    return closed


def _literal(text: str) -> str:
    """Return text as a SQL literal, for statements whose affected rows are counted (these take no parameters)."""
    if "\0" in text:
        raise GranaryError("a name holds a NUL character", text.replace("\0", "?"))
    return "'" + text.replace("'", "''") + "'"


def json_text(payload: object) -> str:
    """Return a refused row as JSON that jsonb can hold: no NUL, no lone surrogate, no NaN; bytes as base64."""
    return json.dumps(_plain(payload), allow_nan=False)


def _plain(value: Any) -> Any:  # noqa: PLR0911 - one type, one line
    if isinstance(value, dict):
        return {_plain(str(name)): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"base64": b64encode(value).decode()}
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)
