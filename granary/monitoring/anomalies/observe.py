"""What the loads of a table brought, day by day: read once after a load, of the rows of that load.

Rows and lateness come from the ledger and are exact. Of columns up to `SAMPLE` rows of each day are looked at, always
the same ones of the same rows, so that days can be compared. Of personal columns, by the contract or by their names,
only how many are empty and how many differ is counted, on hashes: no value of them leaves the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from granary.monitoring.anomalies.metrics import OF_NUMBERS
from granary.profiling.names import is_code, is_free_text, looks_like_key, personal
from granary.profiling.statements import FINITE, Counted
from granary.warehouse.connection import connect_arrow, execute, query, quote_name, quote_relation
from granary.warehouse.records import LOAD_ID, ROW, sql_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

    from granary.sources.spec import Table
    from granary.warehouse.connection import ArrowConnection, Connection
    from granary.warehouse.settings import Settings

SAMPLE = 10_000
"""Rows of a day that columns are looked at in."""
LEAST_ROWS = 20
"""Rows below which nothing is said of columns: a mean of two rows is chance, and may be one person's value."""
AT_ONCE = 500_000
"""Rows that are fetched together."""
COMMON = 50
"""Different values up to which a column of text has categories."""
LEAST_COUNT = 10
"""Rows from which on a category is kept by name; what comes less often is pooled."""
HASHES = 1 << 31
THERE = 0.9
"""Share of the rows looked for that must be there: later loads of a table with a key take rows of earlier ones over."""

Of = Literal["number", "time", "category", "counted"]
Key = tuple[str, str]
"""Column ("" for the table) and metric."""

SEEN = """
    with seen as (
        select {day} as day, {unit} as unit, load_id, superseded_by, {rows} as rows_loaded, started_at
        from ops.load_audit
        where source = $1 and table_name = $2 and {counts}
    )

    select
        day, unit, max(load_id) filter (where superseded_by is null), min(load_id),
        coalesce({total}(rows_loaded) filter (where superseded_by is null), 0)::float8,
        array_agg(load_id order by load_id) filter (where superseded_by is null and rows_loaded > 0),
        extract(epoch from min(started_at))::float8, extract(epoch from day::timestamp at time zone $3)::float8
    from seen
    group by day, unit
    order by day, min(load_id)
"""
NEW_PAST_CURSOR = "case when watermark_after is distinct from watermark_before then rows_loaded else 0 end"
"""Rows that a load past a cursor brought: those up to where the cursor was are read again, and are no news."""
LOADED = "(started_at at time zone $3)::date"
NAMED = r"substring(unit from '(?:^|/)(\d{4}-\d{2}-\d{2})(?:\.[^/]*)?$')::date"
HOUR, DAY = 3600, 86_400


@dataclass(frozen=True)
class Group:
    """What one day, or one unit without a business date, has brought: its loads that count, by the ledger.

    `begins` is when the day began, in seconds since 1970: hours of times are counted from there. `hours_late` is how
    long after its end its first load began.
    """

    day: date
    unit: str
    load_id: int
    first_load_id: int
    rows: float
    load_ids: tuple[int, ...]
    begins: float
    hours_late: float


@dataclass(frozen=True)
class Observation:
    """The statistics of one group: by column and metric, and of columns with categories the share of each."""

    group: Group
    values: Mapping[Key, float]
    shares: Mapping[str, Mapping[str, float]]


def groups(connection: Connection, source: str, table: Table, time_zone: str) -> list[Group]:
    """Return what the ledger knows of a table by day, oldest first: by business date, else by the day of the load.

    Units that are replaced whole and have no business date stay apart. A load that read everything past a cursor's
    beginning is left out: it is no day's.
    """
    apart = is_by_unit(table)
    day = LOADED
    if table.is_daily:
        day = f"coalesce({NAMED}, {LOADED})"
    elif apart:
        day = f"min({LOADED}) over (partition by unit)"
    counts = "status = 'loaded'" if table.is_daily or apart else "status in ('loaded', 'unchanged')"
    sql = SEEN.format(
        day=day,
        unit="unit" if apart else "text ''",
        counts=counts + (" and watermark_before is not null" if table.cursor else ""),
        rows=NEW_PAST_CURSOR if table.cursor else "rows_loaded",
        total="max" if table.disposition == "replace" else "sum",
    )
    return [
        Group(day, unit, newest or first, first, rows, tuple(loads or ()), begins, (started - begins - DAY) / HOUR)
        for day, unit, newest, first, rows, loads, started, begins in query(
            connection, sql, source, table.name, time_zone
        )
    ]


def is_by_unit(table: Table) -> bool:
    """Return whether a table's days are its units: those without a business date that are replaced whole."""
    return table.disposition == "replace_unit" and not table.is_daily


def columns_of(table: Table) -> dict[str, Of]:
    """Return what is measured of each column of a contract."""
    found: dict[str, Of] = {}
    for column in table.columns:
        counted = Counted(column.name, sql_type(column.type), column.personal is not None)
        if counted.personal or personal(column.name, table.name) or looks_like_key(column.name):
            found[column.name] = "counted"
        elif counted.kind == "text":
            is_category = not pa.types.is_binary(column.type) and not is_free_text(column.name)
            found[column.name] = "category" if is_category else "counted"
        else:
            found[column.name] = "counted" if is_code(column.name) else counted.kind
    return found


def observe(settings: Settings, source: str, table: Table, wanted: Sequence[Group]) -> Iterator[Observation]:
    """Yield the statistics of the columns of these groups' rows; of groups whose rows are not all there, of none."""
    kinds = columns_of(table)
    parts = list(_in_parts(wanted, whole=table.disposition == "replace"))
    if not parts:
        return
    with _arrow(settings) as connection:
        for some in parts:
            sql = _rows_of(source, table, kinds, some)
            with connection.cursor() as cursor:
                cursor.execute(sql)
                rows = cursor.fetch_arrow_table()
            bounds = np.searchsorted(rows["place"].to_numpy(), np.arange(len(some) + 1))
            for place, group in enumerate(some):
                part = rows.slice(bounds[place], bounds[place + 1] - bounds[place]).combine_chunks()
                yield _observation(group, kinds, part)


def _in_parts(wanted: Sequence[Group], *, whole: bool) -> Iterator[list[Group]]:
    """Yield the groups in runs of about `AT_ONCE` rows; of a table that is replaced only the newest one."""
    with_rows = [group for group in wanted if group.rows >= LEAST_ROWS and (group.load_ids or whole)]
    run: list[Group] = []
    rows = 0.0
    for group in with_rows[-1:] if whole else with_rows:
        run.append(group)
        rows += min(group.rows, SAMPLE)
        if rows >= AT_ONCE:
            yield run
            run, rows = [], 0.0
    if run:
        yield run


def _arrow(settings: Settings) -> ArrowConnection:
    connection = connect_arrow(settings, "loader")
    execute(connection, "set transaction read only")
    return connection


def _rows_of(source: str, table: Table, kinds: Mapping[str, Of], some: Sequence[Group]) -> str:
    """Return the query for the rows of these groups: the group's place, and a number, a text or a hash per column."""
    columns = [f"{_expression(name, kind)} as c{place}" for place, (name, kind) in enumerate(kinds.items())]
    relation = quote_relation(f"raw_{source}", table.name)
    if table.disposition == "replace":
        (group,) = some
        share = f"(hashint4({quote_name(ROW)}) & {HASHES - 1}) < {_share(group.rows)}"
        return f"select 0 as place, {', '.join(columns)} from {relation} as raw where {share}"
    loads = [(load, place, _share(group.rows)) for place, group in enumerate(some) for load in group.load_ids]
    given = ", ".join(f"({load}, {place}, {share})" for load, place, share in loads)
    ids = ", ".join(str(load) for load, _, _ in loads)
    return (
        f"select loads.place, {', '.join(columns)} from {relation} as raw"
        f" inner join (values {given}) as loads (load_id, place, share) on raw.{LOAD_ID} = loads.load_id"
        f" where raw.{LOAD_ID} in ({ids}) and (hashint4(raw.{ROW}) & {HASHES - 1}) < loads.share order by loads.place"
    )


def _share(rows: float) -> int:
    return HASHES if rows <= SAMPLE else int(HASHES * SAMPLE / rows)


def _expression(name: str, kind: Of) -> str:
    quoted = f"raw.{quote_name(name)}"
    if kind == "number":
        return f"{quoted}::float8"
    if kind == "time":
        return f"extract(epoch from {quoted})::float8"
    return f"{quoted}::text" if kind == "category" else f"hashtextextended({quoted}::text, 0)"


def _observation(group: Group, kinds: Mapping[str, Of], rows: pa.Table) -> Observation:
    values: dict[Key, float] = {}
    shares: dict[str, Mapping[str, float]] = {}
    if rows.num_rows >= THERE * min(group.rows, SAMPLE):
        for place, (name, kind) in enumerate(kinds.items()):
            found, common = describe(rows[f"c{place}"], kind, group.begins)
            values |= {(name, metric): value for metric, value in found.items()}
            if common:
                shares[name] = common
    return Observation(group, values, shares)


def describe(column: pa.ChunkedArray, kind: Of, begins: float = 0.0) -> tuple[dict[str, float], dict[str, float]]:
    """Return the statistics of some rows of a column by metric, and the shares of its categories if it has any.

    Args:
        column: floats for numbers and times (in seconds since 1970), texts for categories, anything else to be counted.
        kind: what the column is.
        begins: from when on the hours of times are counted, in seconds since 1970.
    """
    found = {"nulls": column.null_count / len(column)}
    there = column.drop_null()
    if not len(there):
        return found, {}
    if kind in ("category", "counted"):
        counts = pc.value_counts(there)
        found["distinct"] = float(len(counts))
        if kind == "counted" or len(counts) > COMMON:
            return found, {}
        return found, _shares(counts, len(there))
    numbers = there.to_numpy()
    found["distinct"] = float(len(np.unique(numbers)))
    numbers = numbers[np.abs(numbers) < FINITE]
    if not len(numbers):
        return found, {}
    if kind == "time":
        numbers = (numbers - begins) / HOUR
    tenths = np.percentile(numbers, (10, 50, 90), method="inverted_cdf")
    of_numbers = (float(numbers.mean()), *map(float, tenths))
    return found | dict(zip(OF_NUMBERS, of_numbers, strict=True)), {}


def _shares(counts: pa.StructArray, rows: int) -> dict[str, float]:
    """Return the share of each category; those that few rows have are pooled as "", since they may be anybody's."""
    shares: dict[str, float] = {}
    for value, count in zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True):
        name = value if count >= LEAST_COUNT else ""
        shares[name] = shares.get(name, 0.0) + count / rows
    return shares
