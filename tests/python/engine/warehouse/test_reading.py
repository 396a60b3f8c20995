"""`granary.read`: what a notebook gets of the warehouse, and with whose rights."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

import granary
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError, UsageError

if TYPE_CHECKING:
    from granary.warehouse.reading import To
    from granary.warehouse.settings import Settings

MOMENT = datetime(2026, 1, 31, 22, 30, tzinfo=timezone.utc)


@pytest.fixture
def marts(warehouse: Settings) -> Settings:
    """A mart of two rows, one of them of nulls, that analysts may read; and one that they may not."""
    with connect(warehouse) as connection:
        for statement in (
            "create schema marts",
            "grant usage on schema marts to analyst",
            "create table marts.hidden as select 1 as number",
            """
            create table marts.orders (
                order_id bigint, placed_on date, placed_at timestamptz, amount numeric(12, 2), weight numeric,
                is_paid boolean, note text, lines integer[], parts numeric(6, 3)[], extra jsonb, token uuid
            )
            """,
            """
            insert into marts.orders values
            (
                9007199254740993, '2026-01-31', '2026-01-31 22:30+00', 10.25, 0.5, true, 'ä', '{1,2}', '{1.125}',
                '{"a": 1}', '6f1c2c9e-0000-4000-8000-000000000001'
            ),
            (null, null, null, null, null, null, null, null, null, null, null)
            """,
            "grant select on marts.orders to analyst",
        ):
            execute(connection, statement)
        connection.commit()
    return warehouse


def test_values_come_in_types_that_every_library_knows(marts: Settings) -> None:
    table = granary.read("orders")
    assert table.schema.remove_metadata() == pa.schema(
        {
            "order_id": pa.int64(),
            "placed_on": pa.date32(),
            "placed_at": pa.timestamp("us", "UTC"),
            "amount": pa.decimal128(12, 2),
            "weight": pa.float64(),
            "is_paid": pa.bool_(),
            "note": pa.string(),
            "lines": pa.list_(pa.int32()),
            "parts": pa.list_(pa.float64()),
            "extra": pa.string(),
            "token": pa.string(),
        }
    )
    first, second = table.to_pylist()
    assert list(first.values()) == [
        *(9007199254740993, date(2026, 1, 31), MOMENT, Decimal("10.25"), 0.5, True, "ä", [1, 2], [1.125], '{"a": 1}'),
        "6f1c2c9e-0000-4000-8000-000000000001",
    ]
    assert set(second.values()) == {None}
    assert granary.read("marts.orders").equals(table)
    assert granary.read("select sum(amount)::numeric(14, 2) as total from marts.orders").to_pylist() == [
        {"total": Decimal("10.25")}
    ]


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_as_a_data_frame(marts: Settings, kind: To) -> None:
    pytest.importorskip(kind)
    frame = granary.read("select order_id, amount from marts.orders order by 1", kind)
    assert list(frame.columns) == ["order_id", "amount"]
    assert frame["amount"][0] == Decimal("10.25")


def test_a_large_answer_comes_in_batches(marts: Settings) -> None:
    """Of 24 MB, half a million rows, none is much larger than the driver's 16 MB."""
    reader = granary.read(
        "select n::numeric(9, 1), repeat('x', 40) as x from generate_series(1, 500000) as n", "batches"
    )
    assert isinstance(reader, pa.RecordBatchReader)
    sizes, total = [], 0
    for batch in reader:
        sizes.append(batch.num_rows)
        total += sum(batch["n"].to_pylist())
    assert (sum(sizes), total) == (500_000, Decimal(500_000) * 500_001 / 2)
    assert len(sizes) > 1


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("marts.hidden", "permission denied for table hidden"),
        ("select * from ops.load_audit", "permission denied"),
        ("insert into marts.orders values (1)", "permission denied|read-only"),
        ("create temporary table mine as select 1", "read-only transaction|permission denied"),
        ("select 1 / 0", r"the warehouse refuses it: division by zero \(select 1 / 0\); correct the query"),
        ("select 'NaN'::numeric(5, 2) as rate", r'a number is no decimal, such as NaN \(rate\); .*"rate"::float8'),
    ],
)
def test_what_an_analyst_may_not_is_refused(marts: Settings, what: str, words: str) -> None:
    with pytest.raises(GranaryError, match=words):
        granary.read(what)
    assert granary.read("orders").num_rows == 2


def test_wrong_names_are_said(marts: Settings) -> None:
    with pytest.raises(UsageError, match=r"there is no table 'marts.order'; did you mean marts.orders\?"):
        granary.read("order")
    with pytest.raises(UsageError, match="there is no form 'excel'; choose one of arrow, batches, pandas, polars"):
        granary.read("orders", to="excel")  # type: ignore[arg-type]


def test_a_server_that_is_down_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGHOST", raising=False)
    monkeypatch.setenv("GRANARY_HOME", "/tmp/granary-none")
    with pytest.raises(GranaryError, match=r"cannot connect to Postgres: .*start it with `granary up`"):
        granary.read("orders")
