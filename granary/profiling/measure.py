"""Profiles of tables and of Arrow data, computed by the server.

Row counts, nulls, least and greatest values are always exact. Up to `EXACT_ROWS` rows everything else is, too. Of a
larger table a Bernoulli sample of about `SAMPLE_ROWS` rows is counted, always the same one of the same rows; its number
of distinct values is projected with the estimator Duj1 of Haas and Stokes ("Estimating the number of classes in a
finite population", Journal of the American Statistical Association 93, 1998), which PostgreSQL's ANALYZE uses too:
n d / (n - f1 + f1 n / N), for d values in n of N rows, f1 of which came once.
"""

from __future__ import annotations

from itertools import combinations
from math import prod
from typing import TYPE_CHECKING, Any

from granary.profiling import statements
from granary.profiling.names import looks_like_key, personal
from granary.profiling.profile import PERCENTS, ColumnProfile, Profile
from granary.profiling.statements import Counted
from granary.warehouse.binary_copy import copy_into_new
from granary.warehouse.connection import columns_of, connect, execute, query, quote_name, quote_relation
from granary.warehouse.errors import GranaryError, UsageError, unknown
from granary.warehouse.records import LOAD_ID, ROW

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    import pyarrow as pa

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

TABLES = "see `granary status` for what there is"
EXACT_ROWS = 2_000_000
SAMPLE_ROWS = 1_000_000
PAIRED, MOST_COLUMNS = 5, 4
"""Columns that combinations are tried of as a key, and how many together: at most 25 queries."""
AT_ONCE = 100
"""Columns that are counted in one pass: a query of Postgres gives at most 1,664."""
STAGE = "profile_rows"
LOAD_COLUMNS = (LOAD_ID, ROW, "load_id", "load_row")
"""What loads add, as raw tables and staging views call it: nothing of the source's."""


def profile_relation(
    settings: Settings, name: str, known_personal: Container[str] = (), *, exact_rows: int = EXACT_ROWS
) -> Profile:
    """Profile a table or view of the warehouse, as `schema.name`.

    Args:
        settings: the warehouse.
        name: the relation.
        known_personal: columns that hold personal data; those whose name says so are added.
        exact_rows: up to so many rows everything is exact.

    Raises:
        GranaryError: there is no such table, or it has no columns.
    """
    with connect(settings, role="transformer") as connection:
        relation, columns = _relation(connection, settings, name, known_personal)
        found = _measure(connection, relation, name, columns, exact_rows)
        connection.rollback()
    return found


def profile_loads(
    settings: Settings, name: str, known_personal: Container[str] = (), *, exact_rows: int = EXACT_ROWS
) -> tuple[Profile, Profile]:
    """Profile the rows of a raw table's newest load, and those that were there before it.

    Arguments and errors as of `profile_relation`; also a GranaryError if the table has rows of less than two loads.
    """
    with connect(settings, role="transformer") as connection:
        relation, columns = _relation(connection, settings, name, known_personal)
        newest = _latest_load(connection, relation)
        before = f"{LOAD_ID} < {newest}"
        if newest is None or not query(connection, f"select 1 from {relation} where {before} limit 1"):
            raise GranaryError(f"{name} has no rows of two loads", todo="name a raw table that was loaded twice")
        parts = [
            _measure(connection, relation, name, columns, exact_rows, where)
            for where in (f"{LOAD_ID} = {newest}", before)
        ]
        connection.rollback()
    return parts[0], parts[1]


def _relation(
    connection: Connection, settings: Settings, name: str, known: Container[str]
) -> tuple[str, list[Counted]]:
    """Return a relation's quoted name and its columns; all queries of a profile see the same rows."""
    execute(connection, "set transaction isolation level repeatable read")
    schema, _, table = name.partition(".")
    if not schema or not table:
        raise UsageError(f"{name!r} is not a table", todo="name it as schema.table, such as marts.dim_store")
    relation = quote_relation(schema, table)
    columns = _columns(connection, relation, table, known)
    if not columns:
        every = "select schemaname || '.' || tablename from pg_tables where schemaname !~ '^(pg_|info)'"
        raise unknown("table", name, (str(one) for (one,) in query(connection, every)), settings.database, todo=TABLES)
    return relation, columns


def profile_arrow(settings: Settings, data: pa.Table, name: str, *, exact_rows: int = EXACT_ROWS) -> Profile:
    """Profile Arrow data, of a file with this name, in a temporary table of the warehouse."""
    with connect(settings, role="transformer") as connection:
        copy_into_new(connection, STAGE, data.schema, data.to_batches())
        columns = _columns(connection, f"pg_temp.{quote_name(STAGE)}", name.partition(".")[0], ())
        found = _measure(connection, f"pg_temp.{quote_name(STAGE)}", f"file {name}", columns, exact_rows)
        connection.rollback()
    return found


def _columns(connection: Connection, relation: str, table: str, known: Container[str]) -> list[Counted]:
    """Return the columns that are profiled: all but the two that loads add."""
    return [
        Counted(name, kind, name in known or personal(name, table) is not None)
        for name, kind in columns_of(connection, relation).items()
        if name not in LOAD_COLUMNS
    ]


def _measure(
    connection: Connection, relation: str, name: str, columns: Sequence[Counted], exact_rows: int, where: str = ""
) -> Profile:
    execute(connection, "set local time zone 'UTC'")
    execute(connection, "set local work_mem = '128MB'")
    load_id = _latest_load(connection, relation)
    among = whole = f"(select * from {relation} where {where}) as chosen" if where else relation
    parts = [columns[start : start + AT_ONCE] for start in range(0, len(columns), AT_ONCE)]
    totals = [query(connection, statements.totals(whole, part))[0] for part in parts]
    rows = int(str(totals[0][0]))
    if rows > exact_rows:
        among = _sample(connection, relation, columns, SAMPLE_ROWS / rows, where)
    sampled = rows if among is whole else int(str(query(connection, f"select count(*) from {among}")[0][0]))
    counts = [query(connection, statements.counts(among, part)) if sampled else [] for part in parts]
    profiles = tuple(
        _column(
            column,
            rows=rows,
            sampled=sampled,
            totals=first[1 + 3 * place : 4 + 3 * place],
            answer=[row for row in answer if row[1] == place],
        )
        for part, first, answer in zip(parts, totals, counts, strict=True)
        for place, column in enumerate(part)
    )
    seen = {
        part[int(str(row[1]))].name: int(float(str(row[2])))
        for part, answer in zip(parts, counts, strict=True)
        for row in answer
        if row[0] == "d"
    }
    keys = tuple(_keys(connection, among, sampled, profiles, seen))
    return Profile(name, rows, sampled, profiles, keys, load_id)


def _latest_load(connection: Connection, relation: str) -> int | None:
    has = "select 1 from pg_attribute where attrelid = to_regclass($1) and attname = $2"
    if not query(connection, has, relation, LOAD_ID):
        return None
    (newest,) = query(connection, f"select max({LOAD_ID}) from {relation}")[0]
    return None if newest is None else int(str(newest))


def _sample(connection: Connection, relation: str, columns: Sequence[Counted], share: float, where: str) -> str:
    """Put a Bernoulli sample into a temporary table; the rows of a view, which has no pages, are drawn one by one."""
    stage = f"{STAGE}_sample"
    names = ", ".join(quote_name(column.name) for column in columns)
    (kind,) = query(connection, "select relkind::text from pg_class where oid = to_regclass($1)", relation)[0]
    drawn = f" where random() < {share}" + (f" and {where}" if where else "")
    if kind in ("r", "p", "m"):
        drawn = f" tablesample bernoulli ({100 * share:.8f}) repeatable (1)" + (f" where {where}" if where else "")
    execute(connection, "select setseed(0.5)")
    execute(connection, f"drop table if exists {stage}")
    execute(connection, f"create temporary table {stage} on commit drop as select {names} from {relation}{drawn}")
    return f"pg_temp.{stage}"


def _column(
    column: Counted, *, rows: int, sampled: int, totals: Sequence[object], answer: Sequence[tuple[object, ...]]
) -> ColumnProfile:
    values = int(str(totals[0]))
    by: dict[object, list[Any]] = {"d": [], "t": [], "q": []}
    for row in answer:
        by[row[0]].append(row)
    found, once = (int(by["d"][0][2]), int(by["d"][0][3])) if by["d"] else (0, 0)
    counted = sampled if rows == sampled else max(1, round(sampled * values / max(rows, 1)))
    top = sorted(by["t"], key=lambda row: (-row[2], row[4]))
    return ColumnProfile(
        name=column.name,
        type=column.type,
        kind=column.kind,
        nulls=rows - values,
        distinct=found if rows == sampled else projected(found, once, counted, values),
        minimum=None if totals[1] is None else str(totals[1]),
        maximum=None if totals[2] is None else str(totals[2]),
        percentiles=_percentiles([(float(row[2]), int(row[3])) for row in by["q"]]),
        top=tuple((str(row[4]), float(row[2]) / (values if rows == sampled else counted)) for row in top),
        personal=column.personal,
    )


def _percentiles(steps: list[tuple[float, int]]) -> tuple[float, ...]:
    """Return 101 percentiles from the values that are one, each with the highest percent that it is."""
    filled: list[float] = []
    for value, percent in sorted(steps, key=lambda step: step[1]):
        filled += [value] * (min(percent, PERCENTS - 1) + 1 - len(filled))
    return tuple(filled)


def projected(distinct: int, once: int, sample: int, rows: int) -> int:
    """Return the estimator Duj1 (see the module): never below what was seen, never above the number of rows."""
    if distinct == 0:
        return 0
    below = sample - once + once * sample / max(rows, 1)
    estimate = round(sample * distinct / below) if below > 0 else rows
    return max(distinct, min(estimate, rows))


def _keys(
    connection: Connection,
    relation: str,
    sampled: int,
    profiles: Sequence[ColumnProfile],
    seen: Mapping[str, int],
) -> list[tuple[str, ...]]:
    """Return the keys that the counted rows allow: single columns, else the first of the fewest together.

    `seen` has the number of distinct values of each column among the counted rows.
    """
    full = [(column, seen.get(column.name, 0)) for column in profiles if not column.nulls]
    single = [column.name for column, distinct in full if 0 < sampled == distinct and may_be_key(column)]
    if single or sampled == 0:
        return [(name,) for name in sorted(single, key=lambda name: not looks_like_key(name))]
    able = [(column.name, distinct) for column, distinct in full if distinct > 1 and may_be_key(column)]
    able = sorted(able, key=lambda one: not looks_like_key(one[0]))[:PAIRED]
    for size in range(2, MOST_COLUMNS + 1):
        for some in combinations(able, size):
            names = tuple(name for name, _ in some)
            enough = prod(distinct for _, distinct in some) >= sampled
            if enough and not query(connection, statements.repeats(relation, names)):
                return [names]
    return []


def may_be_key(column: ColumnProfile) -> bool:
    """Return whether a column may identify rows: measures with a fraction do not, however unique they are."""
    whole = column.kind != "number" or column.type in ("smallint", "integer", "bigint") or column.type.endswith(",0)")
    return whole and (column.kind != "text" or column.type in ("text", "uuid") or column.type.startswith("char"))
