"""A mart as it is after one publish, read with the rights of a role, partition by partition."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from adbc_driver_manager import Error

from granary.lake.table import Part
from granary.lake.types import UNDECLARED, fitted, portable
from granary.warehouse.connection import connect, connect_arrow, query, quote_name, quote_relation, reason
from granary.warehouse.errors import GranaryError, UsageError, unknown
from granary.warehouse.published import SNAPSHOT, at_one_publish
from granary.warehouse.reading import MARTS, RELATION, plain_batch, plain_schema
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.connection import ArrowConnection, Connection
    from granary.warehouse.settings import Settings

UNITS = ("day", "month", "year")
MOST_PARTS = 2_000
"""A table of more partitions is of tiny files, and each reader has to open them."""
KINDS = """
    select format_type(atttypid, null) from pg_attribute
    where attrelid = to_regclass($1) and attname = $2 and attnum > 0 and not attisdropped
"""


@dataclass(frozen=True)
class Partitioning:
    """By what a table is partitioned: a column of the mart, and of a date or time the unit that makes a partition."""

    column: str
    unit: str = ""

    @property
    def name(self) -> str:
        """The partition column in the lake: of days in a month a column of its own, the month's first day."""
        return f"{self.column}_{self.unit}" if self.unit else self.column

    @property
    def sql(self) -> str:
        """The partition of a row, called `mart`."""
        column = f"mart.{quote_name(self.column)}"
        return f"date_trunc('{self.unit}', {column}::timestamp)::date" if self.unit else column

    def condition(self, part: Part) -> str:
        """Return the condition for the rows of a partition, which an index on the column answers."""
        column = f"mart.{quote_name(self.column)}"
        if part.key is None:
            return f"{column} is null"
        if not self.unit:
            return f"{column} = {part.literal}"
        first = f"{part.literal}::date"
        return f"{column} >= {first} and {column} < ({first} + interval '1 {self.unit}')::date"


@dataclass(frozen=True)
class Published:
    """A mart within a transaction that sees one publish of it."""

    connection: ArrowConnection
    role: str
    mart: str
    relation: str
    publish_id: int
    schema: pa.Schema
    partitioning: Partitioning | None

    @property
    def partition_column(self) -> str | None:
        """The column of the lake's table that it is partitioned by."""
        return self.partitioning.name if self.partitioning else None

    def parts(self) -> tuple[Part, ...]:
        """Return the partitions, with rows and a hash of each.

        Raises:
            UsageError: they are too many.
        """
        value = self.partitioning.sql if self.partitioning else "''::text"
        rows = query(
            self.connection,
            "select part::text, quote_nullable(part::text), count(*),"
            " sum(hashtextextended(words, 0)::numeric)::text"
            f" from (select {value} as part, mart::text as words from {self.relation} as mart) as rows"
            " group by part order by part nulls first",
        )
        if len(rows) > MOST_PARTS:
            name = self.partitioning.name if self.partitioning else ""
            todo = f"{MOST_PARTS:,} are the most: choose a column with fewer values, or a longer unit (COL:year)"
            raise UsageError(f"{name} has {len(rows):,} values: so many partitions are tiny files", self.mart, todo)
        return tuple(Part(key, str(literal), int(number), str(digest)) for key, literal, number, digest in rows)

    def read(self, part: Part) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a partition, in the types of the lake.

        Raises:
            GranaryError: the server breaks off, or a number has more digits than its column's type.
        """
        where = f" where {self.partitioning.condition(part)}" if self.partitioning else ""
        cursor = self.connection.cursor()
        try:
            cursor.execute(_select(self.relation, self.partitioning) + where)
            answer = cursor.fetch_record_batch()
            plain, number = plain_schema(answer.schema, UNDECLARED), 0
            for batch in answer:
                number += batch.num_rows
                yield fitted(plain_batch(batch, plain), self.schema)
        except Error as error:
            raise GranaryError(f"the warehouse broke off: {reason(error)}", self.mart, "run this again") from None
        except GranaryError as error:
            todo = "say its digits in the model, such as cast(… as numeric(38, 20)), or cast it to double precision"
            what = "a number is none that a lake's decimal holds: it is NaN, or has more than 18 decimal places"
            raise GranaryError(what, f"{self.mart}, column {error.where}", todo) from None
        finally:
            cursor.close()
        if number != part.rows:
            what = f"the partition {part.key} has {plural(part.rows, 'row')}, and {number:,} were read of it"
            raise GranaryError(what, self.mart, "are there dates without end (infinity)? Partition by another column")


def named(mart: str) -> tuple[str, str]:
    """Return schema and name of what somebody calls a mart.

    Raises:
        UsageError: it is no name.
    """
    if not (found := RELATION.fullmatch(mart.strip())):
        raise UsageError(f"{mart[:60]!r} is no name of a mart", "", "write it as in `granary export fct_orders`")
    return found[1] or "marts", found[2]


@contextmanager
def published(settings: Settings, schema: str, name: str, partition_by: str | None, role: str) -> Iterator[Published]:
    """Yield a mart as it is after its schema's last publish, for as long as it takes to read it.

    Raises:
        UsageError: there is no such mart or column, or nothing of it was published.
        GranaryError: the role may not read it.
    """
    full, relation = f"{schema}.{name}", quote_relation(schema, name)
    with connect(settings) as owner:
        if query(owner, "select to_regclass($1) is null", relation) == [(True,)]:
            raise unknown("mart", full, [str(one) for (one,) in query(owner, MARTS, schema)])
        partitioning = _partitioning(owner, relation, partition_by, full) if partition_by else None
    if partitioning:
        _check_shown(settings, relation, partitioning.column, full)
    connection, publish_id = at_one_publish(
        settings, schema, full, lambda: connect_arrow(settings, role, options=SNAPSHOT)
    )
    try:
        cursor = connection.cursor()
        cursor.execute(_select(relation, partitioning) + " limit 0")
        answer = plain_schema(cursor.fetch_record_batch().schema, UNDECLARED)
        cursor.close()
        kinds = pa.schema([pa.field(one.name, portable(one)) for one in answer])
        yield Published(connection, role, full, relation, publish_id, kinds, partitioning)
    except Error as error:
        raise GranaryError(f"the warehouse refuses it: {reason(error)}", full, "name a role that may read it") from None
    finally:
        connection.close()


def _select(relation: str, partitioning: Partitioning | None) -> str:
    more = f", {partitioning.sql} as {quote_name(partitioning.name)}" if partitioning and partitioning.unit else ""
    return f"select mart.*{more} from {relation} as mart"


def _partitioning(owner: Connection, relation: str, text: str, mart: str) -> Partitioning:
    """Return what `COL` or `COL:UNIT` means for a column of this type.

    Raises:
        UsageError: the mart has no such column, or it makes no partitions.
    """
    column, separator, unit = text.partition(":")
    kinds = query(owner, KINDS, relation, column)
    if not kinds:
        raise UsageError(f"{mart} has no column {column[:60]!r}", "--partition-by", "name one of its columns")
    kind = str(kinds[0][0])
    if kind == "date" or kind.startswith("timestamp"):
        if separator and unit not in UNITS:
            raise UsageError(f"{unit[:20]!r} is no unit", "--partition-by", f"write {column}:{'|'.join(UNITS)}")
        return Partitioning(column, unit or "month")
    if separator:
        raise UsageError(f"{column} is no date or time, but {kind}", "--partition-by", f"write {column} alone")
    if kind not in ("smallint", "integer", "bigint", "text", "character varying", "boolean"):
        raise UsageError(f"{column} is {kind}", "--partition-by", "choose a date, time, whole number, text or boolean")
    return Partitioning(column)


def _check_shown(settings: Settings, relation: str, column: str, mart: str) -> None:
    """Refuse a column that analysts see a mask of: its values would be names of folders.

    Raises:
        UsageError: it is one.
        GranaryError: analysts may not read the mart.
    """
    name = quote_name(column)
    with closing(connect_arrow(settings, "analyst")) as connection:
        try:
            ((is_masked,),) = query(
                connection,
                f"select exists (select from {relation}) and not exists"
                f" (select from {relation} where {name} is not null and {name}::text <> 'masked')",
            )
        except Error as error:
            raise GranaryError(f"the warehouse refuses it: {reason(error)}", mart, "grant it to analysts") from None
    if is_masked:
        what = f"{column} is masked, or has no values: folders of the lake would be called by them"
        raise UsageError(what, "--partition-by", "choose a column that is not personal")
