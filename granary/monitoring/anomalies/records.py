"""The records of what was observed and what departed: `ops.observations` and `ops.anomalies`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from granary.monitoring.anomalies.judge import ROWS, Seen
from granary.warehouse.connection import execute, query

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from granary.monitoring.anomalies.config import Config
    from granary.monitoring.anomalies.judge import Verdict
    from granary.monitoring.anomalies.observe import Group, Key
    from granary.warehouse.connection import Connection

Place = tuple["date", str]
"""A day and its unit ("" where units have business dates)."""
PASSED = 7
"""Days, or units, that come after an anomaly until it is over if nobody has corrected it."""


@dataclass(frozen=True)
class Anomaly:
    """One row of ops.anomalies."""

    source: str
    table: str
    column: str
    metric: str
    day: date
    unit: str
    value: float
    low: float
    high: float
    message: str
    muted: bool
    first_seen_at: datetime
    closed_at: datetime | None
    closed_because: str | None

    @property
    def key(self) -> Key:
        """The series that it is of."""
        return self.column, self.metric


def known(connection: Connection, source: str, table: str) -> dict[Place, tuple[int, float]]:
    """Return the newest load and the rows of each day that was observed."""
    rows = query(
        connection,
        "select day, unit, load_id, value from ops.observations"
        " where source = $1 and table_name = $2 and column_name = '' and metric = $3",
        source,
        table,
        ROWS[1],
    )
    return {(day, unit): (load_id, value) for day, unit, load_id, value in rows}


def observations(connection: Connection, source: str, table: str) -> dict[Place, Seen]:
    """Return what was observed of a table, oldest first."""
    rows = query(
        connection,
        "select day, unit, jsonb_object_agg(column_name || '/' || metric, value),"
        " jsonb_object_agg(column_name, shares) filter (where shares is not null)"
        " from ops.observations where source = $1 and table_name = $2"
        " group by day, unit order by day, min(first_load_id)",
        source,
        table,
    )
    return {
        (day, unit): Seen(day, unit, {_key(name): float(value) for name, value in values.items()}, shares or {})
        for day, unit, values, shares in rows
    }


def _key(name: str) -> Key:
    column, _, metric = name.rpartition("/")
    return column, metric


def keep(connection: Connection, source: str, table: str, group: Group, seen: Seen) -> None:
    """Keep what was observed of a day in the place of what was kept before."""
    forget(connection, source, table, (group.day, group.unit))
    keys = list(seen.values)
    execute(
        connection,
        "insert into ops.observations (source, table_name, day, unit, column_name, metric, value, shares, load_id,"
        " first_load_id) select $1, $2, $3, $4, given.* , $9::bigint, $10::bigint"
        " from unnest($5::text[], $6::text[], $7::float8[], $8::jsonb[]) as given",
        source,
        table,
        group.day,
        group.unit,
        [column for column, _ in keys],
        [metric for _, metric in keys],
        [seen.values[key] for key in keys],
        [_json(seen.shares.get(column)) if metric == "nulls" else None for column, metric in keys],
        group.load_id,
        group.first_load_id,
    )


def _json(shares: Mapping[str, float] | None) -> str | None:
    return None if shares is None else json.dumps(shares).replace("\\u0000", "\\ufffd")


def same_again(connection: Connection, source: str, table: str, group: Group) -> None:
    """Note that another load has brought a day as it was."""
    execute(
        connection,
        "update ops.observations set load_id = $5 where source = $1 and table_name = $2 and day = $3 and unit = $4",
        source,
        table,
        group.day,
        group.unit,
        group.load_id,
    )


def forget(connection: Connection, source: str, table: str, place: Place) -> None:
    """Forget what was observed of a day."""
    execute(
        connection,
        "delete from ops.observations where source = $1 and table_name = $2 and day = $3 and unit = $4",
        source,
        table,
        *place,
    )


def rows_by_day(connection: Connection, source: str, but: str) -> dict[str, list[tuple[date, float]]]:
    """Return the rows by day of the source's other tables that are kept by their business date."""
    found: dict[str, list[tuple[date, float]]] = {}
    for table, day, value in query(
        connection,
        "select table_name, day, value from ops.observations"
        " where source = $1 and table_name <> $2 and column_name = '' and metric = $3 and unit = '' order by day",
        source,
        but,
        ROWS[1],
    ):
        found.setdefault(str(table), []).append((day, value))
    return found


def settle(
    connection: Connection,
    source: str,
    table: str,
    place: Place,
    verdicts: Sequence[tuple[Verdict, str]],
) -> None:
    """Write the anomalies of a day, each with its message, and close those that are none now.

    One that was closed is opened again, as new.
    """
    for verdict, message in verdicts:
        execute(
            connection,
            "insert into ops.anomalies as known (source, table_name, column_name, metric, day, unit, value, low,"
            " expected, high, message) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
            " on conflict (source, table_name, column_name, metric, day, unit) do update set value = excluded.value,"
            " low = excluded.low, expected = excluded.expected, high = excluded.high, message = excluded.message,"
            " closed_at = null, closed_because = null, first_seen_at ="
            " case when known.closed_at is null then known.first_seen_at else excluded.first_seen_at end",
            source,
            table,
            verdict.column,
            verdict.metric,
            *place,
            verdict.value,
            verdict.band.low,
            verdict.band.expected,
            verdict.band.high,
            message,
        )
    execute(
        connection,
        "update ops.anomalies set closed_at = clock_timestamp(),"
        " closed_because = case metric when 'lateness' then 'passed' else 'corrected' end"
        " where source = $1 and table_name = $2 and day = $3 and unit = $4 and closed_at is null"
        " and (column_name, metric) not in (select * from unnest($5::text[], $6::text[]))",
        source,
        table,
        *place,
        [verdict.column for verdict, _ in verdicts],
        [verdict.metric for verdict, _ in verdicts],
    )


def mute(connection: Connection, source: str, table: str, said: Config) -> None:
    """Note which open anomalies nobody wants to be told of, as the project says now."""
    for one in anomalies(connection, source, table):
        muted = said.mutes_it(f"{source}.{table}", one.column, one.metric, one.day)
        if muted != one.muted:
            execute(
                connection,
                "update ops.anomalies set muted = $1 where source = $2 and table_name = $3 and column_name = $4"
                " and metric = $5 and day = $6 and unit = $7",
                muted,
                *(source, table, one.column, one.metric, one.day, one.unit),
            )


def close_passed(connection: Connection, source: str, table: str) -> None:
    """Close what `PASSED` later days have come after, of which nothing was known when it was found."""
    execute(
        connection,
        "update ops.anomalies as known set closed_at = clock_timestamp(), closed_because = 'passed'"
        " where source = $1 and table_name = $2 and closed_at is null and $3 <= ("
        " select count(*) from ops.observations as later where later.source = known.source"
        " and later.table_name = known.table_name and later.column_name = '' and later.metric = $4"
        " and later.day >= known.day and (later.day, later.unit) <> (known.day, known.unit)"
        " and later.observed_at > known.first_seen_at)",
        source,
        table,
        PASSED,
        ROWS[1],
    )


def anomalies(
    connection: Connection, source: str | None = None, table: str | None = None, *, closed: bool = False
) -> list[Anomaly]:
    """Return the anomalies that are open, or with `closed` all that are kept, the newest day first."""
    return [
        Anomaly(*row)
        for row in query(
            connection,
            "select source, table_name, column_name, metric, day, unit, value, low, high, message, muted,"
            " first_seen_at, closed_at, closed_because from ops.anomalies"
            " where ($1::text is null or source = $1) and ($2::text is null or table_name = $2)"
            " and (closed_at is null or $3)"
            " order by day desc, source, table_name, anomaly_id",
            source,
            table,
            closed,
        )
    ]


def lines(found: Sequence[Anomaly]) -> list[str]:
    """Return a line for each day or unit of a table: what is first to be told, and how much more there is."""
    together: dict[tuple[str, str, Place], list[Anomaly]] = {}
    for one in found:
        together.setdefault((one.source, one.table, (one.day, one.unit)), []).append(one)
    return [some[0].message + (f" (and {len(some) - 1} more)" if some[1:] else "") for some in together.values()]
