"""The quarantine: what is kept of a refused row, and the ways back in."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from granary.cli.main import app
from granary.load.json_objects import from_rows
from granary.quarantine.replay import Replayed, drop, entries, replay
from granary.sources.spec import Column
from granary.sources.units import Rejected, SourceBatch, UnreadableError
from granary.warehouse.errors import GranaryError
from granary.warehouse.json_text import decode
from tests.python.support.shop import Shop, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.load.api import LoadResult
    from granary.sources.spec import Table
    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]
    Load = Callable[[Table], LoadResult]

PIECES = Column("pieces", pa.int64(), "Pieces.", minimum=1, aliases=("qty",))
STATES = "select status, replayed_load_id is not null from ops.quarantine order by quarantine_id"
ORDERS = "select id, pieces from raw_shop.orders order by id"


def test_replayed_row_lands_once_after_the_contract_was_corrected(
    warehouse: Settings, shop: Shop, land: Load, rows: Rows
) -> None:
    shop.put("a.csv", {"id": [1, 2], "pieces": [5, 0]})
    land(table(PIECES))
    (entry,) = entries(warehouse)
    assert (entry.place, entry.column, entry.reason, entry.payload) == (
        "a.csv, row 2",
        "pieces",
        "is below 1",
        {"id": 2, "pieces": 0},
    )
    assert replay(warehouse, [entry], {}) == [Replayed("shop", "orders", (), ((1, 'pieces is below 1: "0"'),))]
    assert rows(STATES) == [("open", False)]
    land(table(Column("pieces", pa.int64(), "Pieces.", minimum=0), contract=2))
    assert replay(warehouse, [entry], {}) == [Replayed("shop", "orders", (1,), ())]
    assert replay(warehouse, [entry], {}) == [Replayed("shop", "orders", (), ())]
    assert rows(ORDERS) == [(1, 5), (2, 0)]
    assert rows(STATES) == [("replayed", True)]
    balance = (
        "select bool_and(rows_read = rows_loaded + rows_quarantined), sum(rows_loaded)::bigint from ops.load_audit"
    )
    assert rows(balance + " where superseded_by is null") == [(True, 2)]


def test_json_that_was_refused_keeps_its_digits_on_the_way_back(
    warehouse: Settings, shop: Shop, land: Load, rows: Rows
) -> None:
    contract = table(PIECES, Column("price", pa.decimal128(20, 2), "Price."), Column("more", pa.string(), "More."))
    written = (
        b'{"id":1,"qty":0,"price":123456789012345678.91,"more":{"x":[1.50,18446744073709551615]}}',
        b'{"id":2,"qty":1,"pieces":2,"more":"a"}',
        b'{"id":3,"qty":1,"more":{"x":1,"x":2}}',
        b'{"id":4,"id":5,"qty":1}',
    )
    shop.put("a.jsonl", from_rows(contract, [decode(row) for row in written]))
    land(contract)
    said = "{} is there twice, as pieces and as qty: give its value"
    assert [done.refused for done in replay(warehouse, entries(warehouse), {})] == [
        (
            (1, 'pieces is below 1: "0"'),
            (2, said.format("pieces")),
            (3, "more names the field 'x' twice: give its value"),
            (4, "it holds none of the table's columns: give their values"),
        )
    ]
    replay(warehouse, entries(warehouse, [1, 2]), {"pieces": "7"})
    replay(warehouse, entries(warehouse, [3]), {"more": "told"})
    assert rows("select id, pieces, price, more from raw_shop.orders order by id") == [
        (1, 7, Decimal("123456789012345678.91"), '{"x":[1.50,18446744073709551615]}'),
        (2, 7, None, "a"),
        (3, 1, None, "told"),
    ]


def test_replayed_row_goes_with_its_unit(warehouse: Settings, shop: Shop, land: Load, rows: Rows) -> None:
    shop.put("a.csv", {"id": [1, 2], "pieces": [5, 0]})
    land(table(PIECES))
    replay(warehouse, entries(warehouse), {"pieces": "7"})
    assert rows(ORDERS) == [(1, 5), (2, 7)]
    shop.put("a.csv", {"id": [1, 2], "pieces": [5, 3]}, fingerprint="corrected")
    assert land(table(PIECES)).rows_deleted == 2
    assert rows(ORDERS) == [(1, 5), (2, 3)]
    assert rows("select count(*) from ops.load_audit where superseded_by is null and status = 'loaded'") == [(1,)]


def test_row_that_is_still_refused_keeps_when_it_was_first_seen(
    warehouse: Settings, shop: Shop, land: Load, rows: Rows
) -> None:
    shop.put("a.csv", {"id": [1, 2, 3], "pieces": [5, 0, 0]})
    land(table(PIECES))
    shop.put("a.csv", {"id": [1, 2, 3], "pieces": [5, 0, 4]}, fingerprint="corrected")
    land(table(PIECES))
    # Row 2 is refused in the same place for the same reason; row 3 was corrected.
    assert rows("select row_number, status, last_seen_at > first_seen_at from ops.quarantine order by 1") == [
        (2, "open", True),
        (3, "superseded", False),
    ]


def test_row_of_a_cursor_window_is_known_by_its_content_and_closed_when_its_key_arrives(
    shop: Shop, land: Load, rows: Rows
) -> None:
    contract = table(PIECES, Column("at", pa.int64(), "Order."), disposition="merge", key=("id",), cursor="at")
    shop.put("window 1", {"id": [1, 2, 2], "pieces": [5, 0, 0], "at": [1, 2, 2]}, fingerprint=None)
    land(contract)
    shop.put("window 1", {"id": [2, 2], "pieces": [0, 0], "at": [2, 2]}, fingerprint=None)
    land(contract)
    assert rows(STATES) == [("open", False), ("open", False)]
    shop.put("window 1", {"id": [2], "pieces": [6], "at": [3]}, fingerprint=None)
    land(contract)
    assert rows(STATES) == [("superseded", False), ("superseded", False)]
    assert rows(ORDERS) == [(1, 5), (2, 6)]


def test_replay_does_not_undo_a_later_change(warehouse: Settings, shop: Shop, land: Load, rows: Rows) -> None:
    contract = table(PIECES, Column("at", pa.int64(), "Order."), disposition="merge", key=("id",), cursor="at")
    shop.put("window", {"id": [2], "pieces": [0], "at": [2]}, fingerprint=None)
    land(contract)
    old = entries(warehouse)
    shop.put("window", {"id": [2], "pieces": [6], "at": [3]}, fingerprint=None)
    land(contract)
    rows_before = rows(ORDERS)
    # The entry was closed when the key arrived; even one that is open must not win over the newer row.
    assert replay(warehouse, old, {"pieces": "1"}) == [Replayed("shop", "orders", (), ())]
    shop.put("window", {"id": [3, 3], "pieces": [8, 0], "at": [9, 5]}, fingerprint=None)
    land(contract)
    assert rows(STATES) == [("superseded", False), ("superseded", False)]
    assert rows(ORDERS) == [*rows_before, (3, 8)]


def test_payload_is_as_received(warehouse: Settings, shop: Shop, land: Load) -> None:
    bad = {"line": "1;2;3", "raw": b"\xff\0", "nan": float("nan"), "lone": "\ud800", "nul": "a\0b"}
    batch = pa.RecordBatch.from_pydict({"id": ["1"], "qty": ["many"]})
    shop.put("a.csv", SourceBatch(batch, ((0, Rejected("", "has 3 fields of 2", bad, line=9)),), text=True, line=9))
    land(table(PIECES))
    ragged, typed = entries(warehouse)
    assert (ragged.place, ragged.payload) == (
        "a.csv, line 9",
        {"line": "1;2;3", "raw": {"base64": "/wA="}, "nan": "nan", "lone": "?", "nul": "a\ufffdb"},
    )
    assert (typed.place, typed.payload, typed.reason) == (
        "a.csv, line 10",
        {"id": "1", "qty": "many"},
        "is not a valid int64",
    )
    # The delivered name is an alias, and a change is written in the contract's name.
    assert replay(warehouse, [typed], {"pieces": "4"}) == [Replayed("shop", "orders", (2,), ())]
    assert replay(warehouse, [ragged], {}) == [
        Replayed("shop", "orders", (), ((1, "it holds none of the table's columns: give their values"),))
    ]
    assert replay(warehouse, [ragged], {"id": "3", "pieces": "2"}) == [Replayed("shop", "orders", (1,), ())]


def test_unreadable_unit_is_read_again(warehouse: Settings, shop: Shop, land: Load, rows: Rows) -> None:
    shop.put("a.csv", {"id": [1], "pieces": [5]})
    shop.put("b.csv", error=UnreadableError("the file is damaged", "b", "ask"))
    land(table(PIECES))
    (entry,) = entries(warehouse)
    assert replay(warehouse, [entry], {}) == [Replayed("shop", "orders", (), ((1, "the file is damaged"),))]
    assert rows(STATES) == [("open", False)]
    # The reader has learnt the format since: the same content is readable.
    shop.put("b.csv", {"id": [2], "pieces": [6]})
    assert replay(warehouse, [entry], {}) == [Replayed("shop", "orders", (1,), ())]
    assert rows(ORDERS) == [(1, 5), (2, 6)]
    assert rows(STATES) == [("replayed", True)]


def test_each_unit_is_closed_with_the_load_that_read_it(
    warehouse: Settings, shop: Shop, land: Load, rows: Rows
) -> None:
    for name in ("a.csv", "b.csv"):
        shop.put(name, error=UnreadableError("the file is damaged", name, "ask"))
    land(table(PIECES))
    shop.put("a.csv", {"id": [1], "pieces": [5]})
    shop.put("b.csv", {"id": [2], "pieces": [6]})
    shop.put("c.csv", {"id": [3], "pieces": [7]})
    assert replay(warehouse, entries(warehouse), {}) == [Replayed("shop", "orders", (1, 2), ())]
    assert rows(
        "select q.unit, o.id::int from ops.quarantine as q"
        " inner join raw_shop.orders as o on o._load_id = q.replayed_load_id order by 1"
    ) == [("a.csv", 1), ("b.csv", 2)]


def test_drop(warehouse: Settings, shop: Shop, land: Load, rows: Rows) -> None:
    shop.put("a.csv", {"id": [1], "pieces": [0]})
    land(table(PIECES))
    assert (drop(warehouse, [1]), drop(warehouse, [1])) == (1, 0)
    assert rows(STATES) == [("dropped", False)]
    with pytest.raises(GranaryError, match="there is no entry 9 in the quarantine"):
        drop(warehouse, [9])


def test_command(warehouse: Settings, shop: Shop, land: Load, rows: Rows) -> None:
    shop.put("a.csv", {"id": [1, 2, 3], "pieces": [5, 0, -1]})
    land(table(PIECES))
    run = CliRunner()
    listed = json.loads(run.invoke(app, ["quarantine", "list", "shop", "--json"]).stdout)
    assert [(entry["quarantine_id"], entry["reason"]) for entry in listed] == [(1, "is below 1"), (2, "is below 1")]
    assert "a.csv, row 3" in run.invoke(app, ["quarantine", "list"]).stdout
    assert json.loads(run.invoke(app, ["quarantine", "show", "2"]).stdout)[0]["payload"] == {"id": 3, "pieces": -1}
    assert run.invoke(app, ["quarantine", "replay"]).exit_code == 2
    assert run.invoke(app, ["quarantine", "replay", "1", "--set", "pieces"]).exit_code == 2
    failed = run.invoke(app, ["quarantine", "replay", "1", "2"])
    assert (failed.exit_code, "1: pieces is below 1" in failed.stdout) == (1, True)
    assert run.invoke(app, ["quarantine", "replay", "--table", "shop", "--set", "pieces=1"]).exit_code == 0
    assert rows(ORDERS) == [(1, 5), (2, 1), (3, 1)]
    closed = run.invoke(app, ["quarantine", "replay", "1"])
    assert isinstance(closed.exception, GranaryError)
    assert "no such entry" in run.invoke(app, ["quarantine", "list"]).stdout
    assert len(json.loads(run.invoke(app, ["quarantine", "list", "--status", "all", "--json"]).stdout)) == 2
