"""Whether a mart has the same rows on Postgres and on Spark.

Each row becomes one text, in the same way on both sides: numbers with the digits of their declared scale, times in UTC
with microseconds, nulls apart from empty texts. The texts are hashed (md5) where they are, and of the hashes two sums
are compared, which are equal for equal multisets of rows, in whatever order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granary.spark.raw import DECIMAL
from granary.spark.session import connect as connect_spark
from granary.warehouse.connection import columns_of, connect, query, quote_name, quote_relation
from granary.warehouse.errors import GranaryError, unknown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from granary.spark.cluster import Cluster
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

PUBLISHED, PERSONAL = "marts", "personal"
FLOATS, DIGITS = ("double precision", "real"), 9
"""Types without exact digits, and behind the point how many count."""
MOMENT = "yyyy-MM-dd HH:mm:ss.SSSSSS"


@dataclass(frozen=True)
class Compared:
    """A mart on both sides: its rows and their digest."""

    mart: str
    postgres: tuple[int, str]
    spark: tuple[int, str]

    @property
    def is_equal(self) -> bool:
        """Whether both have the same rows."""
        return self.postgres == self.spark


def compare(settings: Settings, cluster: Cluster, names: list[str]) -> Iterator[Compared]:
    """Compare marts, all or those of these names; of a masked one the table behind its view.

    Raises:
        UsageError: there is no mart of a name.
        GranaryError: Spark is not up, or has not built a mart.
    """
    spark = connect_spark(cluster)
    with connect(settings) as connection:
        there = published(connection)
        for name in names:
            if name not in there:
                raise unknown("mart", name, there)
        for name in names or sorted(there):
            relation = quote_relation(there[name], name)
            columns = columns_of(connection, relation)
            ((rows, digest),) = query(connection, postgres_digest(relation, columns))
            yield Compared(name, (int(rows), str(digest)), _asked(spark, name, columns))


def published(connection: Connection) -> dict[str, str]:
    """Return the marts with the schema of the table that has their rows: a masked one is a view of such a table."""
    found = query(
        connection,
        "select tablename::text, schemaname::text from pg_tables where schemaname in ($1, $2) order by schemaname desc",
        PUBLISHED,
        PERSONAL,
    )
    return {str(name): str(schema) for name, schema in found}


def postgres_digest(relation: str, columns: Mapping[str, str]) -> str:
    """Return the query for the count and digest of a relation's rows on Postgres."""

    def text(column: str, kind: str) -> str:
        if kind.startswith("timestamp"):
            moment = f"{column} at time zone 'UTC'" if kind == "timestamp with time zone" else column
            return f"to_char({moment}, 'YYYY-MM-DD HH24:MI:SS.US')"
        if kind.endswith("[]"):
            return f"array_to_string({column}, ',', chr(30))"
        if kind in FLOATS:
            return f"round({column}::numeric, {DIGITS})::text"
        return f"{column}::text"

    parts = ", ".join(f"coalesce({text(quote_name(name), kind)}, chr(30))" for name, kind in columns.items())
    halves = ", ".join(f"('x' || substr(hashed, {start}, 15))::bit(60)::bigint" for start in (1, 16))
    sums = " || '.' || ".join(f"coalesce(sum({half}), 0)::text" for half in ("a", "b"))
    return f"""
    select count(*), {sums}
    from (select md5(concat_ws(chr(31), {parts})) as hashed from {relation}) as texts
    cross join lateral (select {halves}) as of_row (a, b)
    """


def spark_digest(mart: str, columns: Mapping[str, str]) -> str:
    """Return the same of a mart on Spark, whose columns have Postgres' types as they are given."""

    def text(column: str, kind: str) -> str:
        declared = DECIMAL.fullmatch(kind)
        if declared:
            return f"cast(cast({column} as decimal({declared[1]}, {declared[2]})) as string)"
        if kind.startswith("timestamp"):
            return f"date_format({column}, '{MOMENT}')"
        if kind.endswith("[]"):
            return f"array_join({column}, ',', chr(30))"
        if kind in FLOATS:
            return f"cast(cast({column} as decimal(38, {DIGITS})) as string)"
        return f"cast({column} as string)"

    parts = ", ".join(f"coalesce({text(f'`{name}`', kind)}, chr(30))" for name, kind in columns.items())
    halves = (f"cast(conv(substr(hashed, {start}, 15), 16, 10) as decimal(20, 0))" for start in (1, 16))
    sums = " || '.' || ".join(f"cast(coalesce(sum({half}), 0) as string)" for half in halves)
    return (
        f"select count(*), {sums} from (select md5(concat_ws(chr(31), {parts})) as hashed from `{PUBLISHED}`.`{mart}`)"
    )


def _asked(spark: Any, mart: str, columns: Mapping[str, str]) -> tuple[int, str]:
    """Return the count and digest of a mart on Spark.

    Raises:
        GranaryError: it is not there, or has other columns.
    """
    if not spark.catalog.tableExists(f"{PUBLISHED}.{mart}"):
        raise GranaryError("Spark has no such mart", mart, f"build it: dbt build --target spark --select +{mart}")
    there = spark.table(f"{PUBLISHED}.{mart}").columns
    if there != list(columns):
        raise GranaryError(
            f"the columns differ: {', '.join(sorted(set(there) ^ set(columns))) or 'their order'}", mart,
            "build it anew on both sides",
        )  # fmt: skip
    rows, digest = spark.sql(spark_digest(mart, columns)).collect()[0]
    return int(rows), str(digest)
