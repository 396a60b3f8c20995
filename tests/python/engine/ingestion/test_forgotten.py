"""Rows of those who are forgotten, at the load seam: left out and counted, by whichever way they come again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.load import api as load
from granary.load.api import load_table
from granary.load.append import append
from granary.privacy.filter import KEY_BEFORE, RowFilter, identities_in, matches
from granary.privacy.identity import Identity, canonical, identity_of
from granary.privacy.suppression_list import HashKey, SuppressionList, enlist, folder, keep_key, key_of, new_key
from granary.quarantine.replay import entries, replay
from granary.sources import select
from granary.sources.spec import Column
from granary.sources.subjects import Subject
from granary.sources.units import Rejected, SourceBatch, Unit
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError
from granary.warehouse.writer import LoadTransaction
from tests.python.support.shop import Shop, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.load.api import LoadResult
    from granary.sources.spec import Table
    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]
    Load = Callable[..., LoadResult]

HOUSEHOLD = Column("buyer", pa.int64(), "Household.", personal="identifier", subject="household", aliases=("Buyer No",))
PIECES = Column("pieces", pa.int64(), "Pieces.", minimum=1)
HOUSEHOLDS = Subject("household", "number")
SEVEN = Identity(HOUSEHOLDS, "7")
NAMES = {"household_id": HOUSEHOLDS, "buyer": HOUSEHOLDS}
LEDGER = (
    "select rows_read, rows_loaded, rows_quarantined, rows_forgotten from ops.load_audit"
    " where status <> 'failed' order by load_id"
)


def remember(settings: Settings, *keys: object, subject: Subject = HOUSEHOLDS) -> None:
    """Have the database know data subjects as forgotten."""
    key = key_of(settings) or new_key()
    keep_key(settings, key)
    with connect(settings) as connection:
        for value in keys:
            sql = "insert into ops.erasures (subject, key_mark) values ($1, $2)"
            execute(connection, sql, key.hash(identity_of(subject, value)), key.mark)
        connection.commit()


@pytest.fixture
def land(warehouse: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Load:
    def run(contract: Table | None = None, **options: Any) -> LoadResult:
        sources = {"shop": shop.source(contract or table(HOUSEHOLD, PIECES))}
        monkeypatch.setattr(load, "SOURCES", sources)
        monkeypatch.setattr(select, "SOURCES", sources)
        return load_table(warehouse, "shop", "orders", **options)

    return run


def test_a_column_that_says_whom_it_is_about_is_personal() -> None:
    with pytest.raises(ValueError, match="has a subject, so it tells persons apart"):
        Column("buyer", pa.int64(), "Household.", subject="household")


def test_a_number_is_the_same_however_it_is_written() -> None:
    assert {canonical("number", text) for text in (7, "7", " 007 ", "+7", 7.0, "7.00")} == {"7"}
    others = (0, "7x", "-7", "7.5", "10")
    assert [canonical("number", text) for text in others] == ["0", "7x", "-7", "7.5", "10"]
    key = HashKey(b"k" * 32)
    assert key.hash(SEVEN) == key.hash(identity_of(HOUSEHOLDS, "07")) != key.hash(identity_of(HOUSEHOLDS, 70))
    assert key.hash(SEVEN) != HashKey(b"l" * 32).hash(SEVEN)


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"household_id": 7, "quantity": 1}, "yes"),
        ({"household_id": "07", "quantity": 1}, "yes"),
        ({"household_id": 1, "quantity": 7, "basket": "7"}, "no"),
        ({"order": {"by": [{"buyer": 8}, {"buyer": 7}]}}, "yes"),
        ({"order": '{"buyer": 7}'}, "yes"),
        ({"order": "{'buyer': 7}"}, "yes"),
        ({"order": "{'buyer': 77}"}, "no"),
        ({"buyer": 8, "referred_by": {"buyer": 7}}, "no"),
        ({"quantity": 7}, "no"),
        ({"line": "2017-01-07;7;12.70"}, "maybe"),
        ({"line": "2017-01-07;77;7.70"}, "no"),
        ({"line": '{"household_id": 7, "quanti'}, "maybe"),
        ({"row": [7, "x"]}, "maybe"),
    ],
)
def test_only_a_named_number_is_a_household(payload: Any, said: str) -> None:
    assert matches(payload, NAMES, SEVEN.__eq__) == said
    assert (SEVEN in identities_in(json.dumps(payload), NAMES)) == (said != "no")
    assert matches(payload, {}, SEVEN.__eq__) == "no"


def test_rows_are_left_out_and_counted(warehouse: Settings, shop: Shop, land: Load, rows: Rows) -> None:
    shop.put("a.csv", {"id": [1, 2, 3, 4], "buyer": [7, 8, None, 7], "pieces": [1, 2, 3, 0]})
    done = land()
    assert (done.rows_read, done.rows_loaded, done.rows_quarantined, done.rows_forgotten) == (4, 3, 1, 0)
    remember(warehouse, 7)
    # A corrected file, under another name for the column; a whole refresh; a new file with a broken line.
    shop.put("a.csv", {"id": [1, 2, 3, 4], "Buyer No": [7, 8, None, 7], "pieces": [1, 5, 3, 0]}, fingerprint="2")
    done = land()
    assert (done.rows_read, done.rows_loaded, done.rows_quarantined, done.rows_forgotten) == (4, 2, 0, 2)
    assert rows("select id, buyer, pieces, _row from raw_shop.orders order by id") == [(2, 8, 5, 2), (3, None, 3, 3)]
    assert land(full_refresh=True).rows_forgotten == 2
    broken = Rejected("", "has 2 values", {"line": "9;7"}, 3)
    other = Rejected("", "has 2 values", {"line": "9;8"}, 4)
    good = pa.RecordBatch.from_pydict({"id": [5], "buyer": [9], "pieces": [1]})
    shop.put("b.csv", SourceBatch(good, ((1, broken), (2, other))))
    done = land()
    assert (done.rows_read, done.rows_loaded, done.rows_quarantined, done.rows_forgotten) == (3, 1, 2, 0)
    payloads = rows("select payload::text from ops.quarantine where unit = 'b.csv' order by row_number")
    assert ["forgotten" in str(payload) for (payload,) in payloads] == [True, False]
    assert payloads[1] == ('{"line": "9;8"}',)
    assert rows(LEDGER) == [(4, 3, 1, 0), (4, 2, 0, 2), (4, 2, 0, 2), (3, 1, 2, 0)]


def test_a_number_counts_only_where_the_contract_says_whose_it_is(
    warehouse: Settings, shop: Shop, land: Load, rows: Rows
) -> None:
    """An identifier as text is one; a nested value and a column that the contract does not name are somebody else's."""
    remember(warehouse, 7)
    text = Column("buyer", pa.string(), "Household.", personal="identifier", subject="household")
    shop.put(
        "a.csv",
        {
            "id": [1, 2, 3, 7],
            "buyer": ["007", "8", "8", "8"],
            "pieces": [1] * 4,
            "extra": [None, '{"buyer": 7}', '{"household_id": 7}', None],
            "household_id": [None, None, None, 7],
        },
    )
    assert land(table(text, PIECES)).rows_forgotten == 1
    assert rows("select id from raw_shop.orders order by id") == [(2,), (3,), (7,)]


def test_a_table_without_a_subject_loses_nothing(warehouse: Settings, shop: Shop, land: Load, rows: Rows) -> None:
    """Its column is called like a subject's in another table, and its broken line holds the number by itself."""
    remember(warehouse, 7)
    contract = table(Column("buyer", pa.int64(), "Purchasing department."), PIECES)
    broken = Rejected("", "has 2 values", {"line": "9;7"}, 3)
    shop.put("a.csv", SourceBatch(pa.RecordBatch.from_pydict({"id": [7], "buyer": [7], "pieces": [1]}), ((1, broken),)))
    done = land(contract)
    assert (done.rows_read, done.rows_loaded, done.rows_quarantined, done.rows_forgotten) == (2, 1, 1, 0)
    assert rows("select payload::text from ops.quarantine") == [('{"line": "9;7"}',)]


def test_a_cursor_passes_rows_that_are_left_out(warehouse: Settings, shop: Shop, land: Load, rows: Rows) -> None:
    remember(warehouse, 7)
    contract = table(HOUSEHOLD, disposition="merge", key=("id",), cursor="id")
    shop.put("window", {"id": [1, 2], "buyer": [8, 7]}, fingerprint=None)
    assert land(contract).watermark_after == "2"
    assert rows("select id from raw_shop.orders") == [(1,)]


def test_appended_and_replayed_rows(warehouse: Settings, shop: Shop, land: Load, rows: Rows) -> None:
    """Micro-batches, webhooks and changes are appended; a refused row comes back with another number."""
    contract = table(HOUSEHOLD, PIECES, disposition="append", key=("id",))
    source = shop.source(contract)
    shop.put("a.csv", {"id": [1], "buyer": [8], "pieces": [0]})
    land(contract)
    remember(warehouse, 7)
    with LoadTransaction(warehouse, "shop") as tx:
        source_batch = SourceBatch(pa.RecordBatch.from_pydict({"id": [2, 3], "buyer": [7, 8], "pieces": [1, 1]}))
        done = append(tx, source, contract, Unit("topic[0]"), [source_batch])
        assert (done.rows_read, done.rows_loaded, done.rows_forgotten) == (2, 1, 1)
    replay(warehouse, entries(warehouse), {"buyer": "7", "pieces": "1"})
    assert rows("select id, buyer from raw_shop.orders") == [(3, 8)]


def test_a_changed_key_does_not_name_who_is_forgotten() -> None:
    key = HashKey(b"k" * 32)
    rows = RowFilter(table(HOUSEHOLD, Column(KEY_BEFORE, pa.string(), "Key.")), SuppressionList(key, [key.hash(SEVEN)]))
    before = ['{"buyer": "7"}', '{"buyer": "8"}', None]
    batch = pa.RecordBatch.from_pydict({"id": [1, 2, 3], "buyer": [9, 9, 7], KEY_BEFORE: before})
    kept, places, refusals, gone = rows.apply(batch, pa.array([1, 2, 3], pa.int32()), [])
    assert (kept.column(KEY_BEFORE).to_pylist(), places.to_pylist(), refusals, gone) == (
        [None, '{"buyer": "8"}'],
        [1, 2],
        [],
        1,
    )


def test_without_the_key_nothing_is_loaded(warehouse: Settings, shop: Shop, land: Load, rows: Rows) -> None:
    """Nobody could tell whose rows must stay out, and a new key would let them in."""
    remember(warehouse, 7)
    path = folder(warehouse) / "key"
    assert (path.stat().st_mode & 0o777, folder(warehouse).stat().st_mode & 0o777) == (0o600, 0o700)
    kept = path.read_text()
    shop.put("a.csv", {"id": [1], "buyer": [7], "pieces": [1]})
    for wrong in (None, "ab" * 32):
        path.unlink() if wrong is None else path.write_text(wrong)
        with pytest.raises(GranaryError, match="the key that identifies them is not here"):
            land()
    path.write_text("no key")
    with pytest.raises(GranaryError, match="no 64 hexadecimal digits"):
        land()
    path.write_text(kept)
    assert land().rows_forgotten == 1


def test_the_list_beside_the_database_suffices(warehouse: Settings, shop: Shop, land: Load, rows: Rows) -> None:
    """A database that was restored from before the erasure does not know of it; the list does."""
    remember(warehouse, 7)
    with connect(warehouse) as connection:
        enlist(warehouse, connection)
        enlist(warehouse, connection)
        execute(connection, "delete from ops.erasures")
        connection.commit()
    assert len((folder(warehouse) / "list.jsonl").read_text().splitlines()) == 1
    shop.put("a.csv", {"id": [1], "buyer": [7], "pieces": [1]})
    assert land().rows_forgotten == 1
    assert '"7"' not in (folder(warehouse) / "list.jsonl").read_text()
