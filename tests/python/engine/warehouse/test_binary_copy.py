"""Arrow to binary COPY and back: what Postgres has then is what there was, for every type that a raw table holds."""

from __future__ import annotations

import random
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
import pyarrow as pa
import pytest

from granary.warehouse.binary_copy import PART_BYTES, copy_into, copy_into_new, encode, parts
from granary.warehouse.connection import connect, execute, query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

UTC = timezone.utc

VALUES: list[tuple[pa.DataType, list[Any]]] = [
    (pa.int16(), [-(2**15), -1, 0, 2**15 - 1]),
    (pa.int32(), [-(2**31), -1, 0, 2**31 - 1]),
    (pa.int64(), [-(2**63), -1, 0, 2**63 - 1]),
    (pa.float32(), [-1.5, 0.0, 0.25, float("inf")]),
    (pa.float64(), [-0.1, 1e-308, 1.7976931348623157e308, float("-inf")]),
    (pa.bool_(), [True, False, False, True]),
    (pa.date32(), [date(1, 1, 1), date(1999, 12, 31), date(2000, 1, 1), date(9999, 12, 31)]),
    (
        pa.timestamp("us"),
        [*map(datetime.fromisoformat, ("0001-01-01", "1999-12-31 23:59:59.999999", "2017-03-12 02:30:00"))],
    ),
    (pa.timestamp("us", "UTC"), [datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)]),
    (pa.string(), ["", "a", "\u20ac \U0001f600 \\N \t\n", "x" * 70_000]),
    (pa.string(), ["01", "02", "é", "  "]),
    (pa.binary(), [b"", b"\0\xff", b"PGCOPY\n\xff\r\n\0", b"\xff\xff"]),
    (pa.decimal128(12, 2), ["0.00", "0.01", "-0.01", "9999999999.99", "-9999999999.99", "10000.00", "4596039.58"]),
    (pa.decimal128(38, 0), ["0", "-1", "9" * 38, "-" + "9" * 38, "10000", "-18446744073709551616"]),
    (pa.decimal128(38, 37), ["0." + "0" * 36 + "1", "-9." + "9" * 37]),
    (pa.decimal128(5, 5), ["0.00001", "-0.99999", "0.12345"]),
    (pa.decimal128(19, 3), ["1234567890123456.789", "-1234567890123456.001"]),
    (pa.decimal256(76, 0), ["0", "-1", "9" * 76, "-" + "9" * 76, "10000"]),
    (pa.decimal256(50, 10), ["0.0000000001", "-" + "9" * 40 + "." + "9" * 10, "1E+39"]),
]


@pytest.fixture(scope="module")
def settings(make_warehouse: Callable[[str], Settings]) -> Settings:
    return make_warehouse("binary_copy")


@pytest.fixture
def connection(settings: Settings) -> Iterator[Connection]:
    with connect(settings, role="loader") as opened:
        yield opened


@pytest.mark.parametrize(("kind", "values"), VALUES, ids=[f"{kind}-{n}" for n, (kind, _) in enumerate(VALUES)])
@pytest.mark.parametrize("nulls", ["none", "some", "all"])
def test_what_arrives_is_what_was_sent(
    connection: Connection, kind: pa.DataType, values: list[Any], nulls: str
) -> None:
    if pa.types.is_decimal(kind):
        values = [Decimal(value) for value in values]
    sent = {"none": values, "some": [None, *values, None], "all": [None] * 3}[nulls]
    # From the middle of an array, beside other columns, and a batch without rows before.
    column = pa.array([values[0], *sent, values[0]], kind).slice(1, len(sent))
    row = pa.array(range(len(sent)), pa.int32())
    batch = pa.RecordBatch.from_arrays([column, row, column], ["a", "n", "b"])
    copy_into_new(connection, "t", batch.schema, [batch.slice(0, 0), batch])
    assert query(connection, "select n, a, b from t order by n") == [
        (number, value, value) for number, value in enumerate(sent)
    ]


def test_any_mixture_of_columns(connection: Connection) -> None:
    dice = random.Random(17)
    for _ in range(40):
        chosen = dice.choices(VALUES, k=dice.randint(1, 9))
        count = dice.randint(1, 50)
        columns = []
        for kind, values in chosen:
            share = dice.choice([0, 0, 0.3, 1])
            known = [Decimal(value) if pa.types.is_decimal(kind) else value for value in values]
            columns.append([None if dice.random() < share else dice.choice(known) for _ in range(count)])
        arrays = [pa.array(column, kind) for column, (kind, _) in zip(columns, chosen, strict=True)]
        batch = pa.RecordBatch.from_arrays(arrays, [f"c{number}" for number in range(len(arrays))])
        copy_into_new(connection, "t", batch.schema, [batch])
        assert query(connection, "select * from t") == list(zip(*columns, strict=True))
        connection.rollback()


def test_the_bytes_are_those_of_the_manual() -> None:
    batch = pa.RecordBatch.from_pydict({"a": pa.array([1, None], pa.int16()), "b": pa.array(["hi", ""])})
    assert b"".join(encode(batch.schema, [batch])) == (
        b"PGCOPY\n\xff\r\n\0"
        + bytes(8)
        + bytes.fromhex("0002 00000002 0001 00000002 6869  0002 ffffffff 00000000")
        + b"\xff\xff"
    )


def test_large_rows_go_in_small_parts() -> None:
    batch = pa.RecordBatch.from_pydict({"a": ["x" * 1000] * 5000})
    sizes = [len(piece) for piece in encode(batch.schema, [batch])]
    assert sum(sizes) == 19 + 5000 * 1006 + 2
    assert max(sizes) < 1.1 * PART_BYTES
    assert [part.num_rows for part in parts([pa.RecordBatch.from_pydict({"a": ["x" * PART_BYTES] * 2})])] == [1, 1]


def test_a_null_where_the_schema_has_none_is_the_server_s_to_refuse(connection: Connection) -> None:
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False)])
    batch = pa.RecordBatch.from_arrays([pa.array([1, None])], schema=schema)
    copy_into_new(connection, "t", schema, [batch])
    assert query(connection, "select a from t order by a") == [(1,), (None,)]


def test_a_refused_row_undoes_the_copy_and_says_why(connection: Connection) -> None:
    batch = pa.RecordBatch.from_pydict({"a": pa.array([1, 1])})
    execute(connection, "create temporary table t (a bigint primary key)")
    connection.commit()
    with pytest.raises(psycopg.errors.UniqueViolation, match=r'^duplicate key value violates .* "t_pkey"$'):
        copy_into(connection, "t", [batch])
    connection.rollback()
    assert query(connection, "select count(*) from t") == [(0,)]


def test_an_error_of_the_source_ends_the_copy_as_itself(connection: Connection) -> None:
    def batches() -> Any:
        yield pa.RecordBatch.from_pydict({"a": pa.array([1])})
        raise LookupError("the source is gone")

    execute(connection, "create temporary table t (a bigint)")
    connection.commit()
    with pytest.raises(LookupError, match="the source is gone"):
        copy_into(connection, "t", batches())
    connection.rollback()
    assert query(connection, "select count(*) from t") == [(0,)]
