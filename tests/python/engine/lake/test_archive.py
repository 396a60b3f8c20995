"""Old raw rows leave Postgres for a file, compared before they do, and come back as they were."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.backup import compare
from granary.load import api as load
from granary.load.api import load_table
from granary.load.withdrawal import withdraw
from granary.sources.spec import Column
from granary.tiering import archive, policy, records
from granary.tiering.restore import restore
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError
from tests.python.support.shop import Shop, table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from granary.sources.spec import Table
    from granary.warehouse.settings import Settings
    from tests.python.engine.lake.conftest import Store

    Rows = Callable[..., list[tuple[Any, ...]]]

UTC = timezone.utc
LATE = datetime(2026, 3, 1, tzinfo=UTC)
"""January and February are before it."""
COLUMNS = (
    Column("name", pa.string(), "Name."),
    Column("fare", pa.decimal128(12, 2), "Fare."),
    Column("huge", pa.decimal256(60, 3), "A number of many digits."),
    Column("rate", pa.float64(), "Rate.", finite=False),
    Column("small", pa.int16(), "Small."),
    Column("day", pa.date32(), "Day."),
    Column("at", pa.timestamp("us", tz="UTC"), "Instant."),
    Column("local", pa.timestamp("us"), "Without a zone."),
    Column("is_paid", pa.bool_(), "Paid."),
    Column("photo", pa.binary(), "Bytes."),
)
KINDS = table(*COLUMNS, partition="day")
CONTENT: dict[str, list[Any]] = {
    "id": [1, 2],
    "name": ["Zoë's «corner»\n", None],
    "fare": [Decimal("10.25"), None],
    "huge": [Decimal("123456789012345678901234567890123456789012.345"), None],
    "rate": [0.1, float("nan")],
    "small": [-7, None],
    "day": [date(1, 1, 1), date(9999, 12, 31)],
    "at": [datetime(2026, 1, 31, 23, 30, 0, 1, tzinfo=UTC), None],
    "local": [datetime(2026, 1, 31, 22), None],  # noqa: DTZ001
    "is_paid": [True, None],
    "photo": [b"\0\xff", None],
}
ALL = "select * from raw_shop.orders order by _load_id, _row"
LEDGER = "select load_id, unit, status, rows_loaded, superseded_by, fingerprint from ops.load_audit order by load_id"


class Archived:
    """A shop with a file of rows per day, and a folder that its old rows go to."""

    def __init__(self, settings: Settings, shop: Shop, place: Path, patch: pytest.MonkeyPatch) -> None:
        self.settings, self.shop, self.place, self.patch = settings, shop, place, patch
        self.contract: Table = table(partition="day")

    def deliver(self, day: str, *ids: int, name: str = "", fingerprint: str = "1", content: Any = None) -> None:
        rows = content or {"id": list(ids)}
        self.shop.put(name or f"{day}.csv", rows, fingerprint=fingerprint, date=date.fromisoformat(day))

    def load(self, **options: Any) -> load.LoadResult:
        self.patch.setattr(load, "SOURCES", {"shop": self.shop.source(self.contract)})
        return load_table(self.settings, "shop", "orders", **options)

    def archive(self, before: datetime = LATE, **options: Any) -> archive.Moved:
        return archive.archive(self.settings, "shop", self.contract, before, **options)

    def restore(self, **options: Any) -> Any:
        return restore(self.settings, "shop", self.contract, **options)

    def rows(self, sql: str = ALL) -> list[tuple[Any, ...]]:
        with connect(self.settings) as connection:
            return query(connection, sql)

    def ids(self) -> list[int]:
        return sorted(row[0] for row in self.rows("select id from raw_shop.orders"))

    def change(self, sql: str) -> None:
        with connect(self.settings) as connection:
            execute(connection, sql)
            connection.commit()

    def files(self) -> list[str]:
        return sorted(path.relative_to(self.place).as_posix() for path in self.place.rglob("*") if path.is_file())

    def held(self) -> list[records.Archive]:
        return records.held(self.settings)


@pytest.fixture
def shop(warehouse: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archived:
    monkeypatch.setenv("GRANARY_ARCHIVE", str(tmp_path / "archive"))
    return Archived(warehouse, Shop(), tmp_path / "archive", monkeypatch)


@pytest.fixture
def year(shop: Archived) -> Archived:
    """Return a shop of which three days of two months are old, and one is not."""
    for number, day in enumerate(("2026-01-05", "2026-01-06", "2026-02-07", "2026-03-08"), start=1):
        shop.deliver(day, number * 10, number * 10 + 1)
    shop.load()
    return shop


def test_rows_of_all_types_go_and_come_back_as_they_were(shop: Archived) -> None:
    shop.contract = KINDS
    shop.deliver("2026-01-05", content=CONTENT)
    shop.load()
    before, ledger = shop.rows("select r::text from raw_shop.orders as r order by _row"), shop.rows(LEDGER)
    moved = shop.archive()
    assert (moved.loads, moved.rows, moved.files) == (1, 2, 1)
    assert (shop.rows(), shop.rows(LEDGER)) == ([], ledger)
    (held,) = shop.held()
    assert shop.files() == [held.path]
    assert (held.rows, held.data_from, held.bytes) == (2, "2026-01-05", (shop.place / held.path).stat().st_size)
    back = shop.restore()
    assert (back.files, back.loads, back.rows) == (1, 1, 2)
    assert shop.rows("select r::text from raw_shop.orders as r order by _row") == before
    assert (shop.rows(LEDGER), shop.held()) == (ledger, [])


def test_a_file_has_a_month_and_only_what_is_old_goes(year: Archived) -> None:
    assert year.archive(dry_run=True).rows == 6
    assert year.ids() == [10, 11, 20, 21, 30, 31, 40, 41]
    assert (year.archive().files, year.ids()) == (2, [40, 41])
    assert [(one.data_from, one.data_until, one.rows) for one in year.held()] == [
        ("2026-01-05", "2026-01-06", 4),
        ("2026-02-07", "2026-02-07", 2),
    ]
    assert year.archive().rows == 0
    assert year.load().rows_loaded == 0
    assert year.ids() == [40, 41]
    assert year.restore(since="2026-02-01", until="2026-02-28").rows == 2
    assert year.ids() == [30, 31, 40, 41]


def test_what_models_have_not_seen_stays(year: Archived) -> None:
    second = int(year.rows("select load_id from ops.load_audit order by 1 offset 1 limit 1")[0][0])
    assert year.archive(newest=second).rows == 4
    assert year.ids() == [30, 31, 40, 41]


def test_a_corrected_file_replaces_rows_that_are_archived(year: Archived) -> None:
    year.archive()
    year.deliver("2026-01-05", 12, fingerprint="2")
    assert (year.load().rows_deleted, year.ids()) == (2, [12, 40, 41])
    assert year.restore().rows == 4
    assert year.ids() == [12, 20, 21, 30, 31, 40, 41]
    assert compare_raw(year) == [True]


def test_a_withdrawn_file_stays_away(year: Archived) -> None:
    year.archive()
    del year.shop.units_by_name["2026-02-07.csv"]
    assert [one.rows_deleted for one in withdraw(year.settings, "shop", "orders", ["2026-02-07.csv"])] == [2]
    assert archive.sweep(year.settings, "shop") == 0
    assert [one.data_from for one in year.held()] == ["2026-01-05"]
    assert (year.restore().rows, year.ids()) == (4, [10, 11, 20, 21, 40, 41])


def test_a_table_is_not_read_anew_while_rows_are_away(year: Archived) -> None:
    year.archive()
    for options in ({"full_refresh": True}, {"rebuild": True}):
        with pytest.raises(GranaryError, match="6 of the table's rows lie in an archive") as raised:
            year.load(**options)
        assert "granary archive-raw shop.orders --restore" in str(raised.value)
    assert year.ids() == [40, 41]
    year.restore()
    assert year.load(full_refresh=True).rows_loaded == 8


def test_rows_that_are_lost_are_read_again_and_those_in_the_archive_stay(year: Archived) -> None:
    year.archive()
    del year.shop.units_by_name["2026-01-05.csv"]
    year.change("truncate raw_shop.orders")
    assert year.load().rows_loaded == 6
    assert year.ids() == [20, 21, 30, 31, 40, 41]
    assert (year.restore().rows, year.ids()) == (2, [10, 11, 20, 21, 30, 31, 40, 41])


def test_columns_may_come_and_widen_meanwhile(year: Archived) -> None:
    year.archive()
    year.change("alter table raw_shop.orders add column name text, alter column id type numeric(20, 0)")
    assert (year.restore().rows, year.ids()) == (6, [10, 11, 20, 21, 30, 31, 40, 41])


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_file_that_is_damaged_brings_nothing_back(year: Archived, damage: str) -> None:
    year.archive()
    path = year.place / year.held()[0].path
    path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(GranaryError, match="not there" if damage == "gone" else "another than was written"):
        year.restore(until="2026-01-31")
    assert year.ids() == [40, 41]
    with connect(year.settings) as connection:
        (check,) = compare.archives(connection, year.settings)
    assert (check.passed, compare_raw(year)) == (damage == "changed", [True])


def test_a_raw_table_that_is_not_as_the_ledger_says_stays(year: Archived) -> None:
    year.change("delete from raw_shop.orders where id = 20")
    with pytest.raises(GranaryError, match="has 1 row, and the ledger says 2"):
        year.archive()
    assert year.ids() == [10, 11, 21, 30, 31, 40, 41]
    assert archive.sweep(year.settings, "shop") == 1
    assert year.files() == []


def test_files_that_nobody_needs_go_after_a_while(year: Archived) -> None:
    year.archive()
    year.restore()
    assert len(year.files()) == 2
    assert archive.sweep(year.settings, "shop") == 0
    year.change("update ops.archives set released_at = now() - interval '31 days' where data_from >= '2026-02-01'")
    assert archive.sweep(year.settings, "shop") == 1
    assert [name[:23] for name in year.files()] == ["raw/shop/orders/2026-01"]


def test_a_build_is_waited_for(year: Archived) -> None:
    with connect(year.settings, role="transformer") as building:
        query(building, "select ops.archived_rows('[]')")
        year.patch.setattr("granary.warehouse.connection.LOCK_SECONDS", 1)
        with pytest.raises(GranaryError, match="a build reads raw tables"):
            year.archive()
    assert year.ids() == [10, 11, 20, 21, 30, 31, 40, 41]
    assert year.archive().rows == 6


def node(name: str, *, kind: str = "model", **config: Any) -> dict[str, Any]:
    return {"name": name, "resource_type": kind, "schema": "s", "alias": name, "config": config}


INCREMENTAL = {"materialized": "incremental", "incremental_strategy": "overwrite_partitions"}


@pytest.mark.parametrize(
    ("reader", "words"),
    [
        (node("whole", materialized="table"), "whole is built whole by each run (table)"),
        (node("kept", kind="snapshot", materialized="snapshot"), "the snapshot kept compares all raw rows"),
        (node("all", **INCREMENTAL), "all computes all of its rows in each run"),
        (node("replaced", materialized="incremental", incremental_strategy="delete+insert"), "replaced replaces rows"),
        (node("shown", materialized="view", schema="build"), "people read raw rows by the mart shown"),
        (node("days", **INCREMENTAL, meta={"changes": "log"}), ""),
        (node("log", materialized="incremental", incremental_strategy="append"), ""),
        (node("every_row", kind="test"), ""),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_who_reads_a_table_says_whether_its_rows_may_leave(reader: dict[str, Any], words: str) -> None:
    manifest = {
        "sources": {"source.orders": {"schema": "raw_shop", "identifier": "orders"}},
        "nodes": {"model.stg": node("stg", materialized="view"), "model.reader": reader},
        "child_map": {"source.orders": ["model.stg"], "model.stg": ["model.reader"]},
    }
    found = policy.readers(manifest, "shop", "orders")
    assert [one for one in found.refusals if words in one] == list(found.refusals)
    assert bool(found.refusals) == bool(words)
    assert policy.readers(manifest, "shop", "customers") == policy.Readers(frozenset(), ())


def test_a_model_that_has_not_been_built_is_waited_for(year: Archived) -> None:
    readers = policy.Readers(frozenset({"days"}), ())
    with connect(year.settings) as connection:
        with pytest.raises(GranaryError, match="nobody knows which loads days has"):
            policy.newest_seen(connection, "shop", "orders", readers)
        execute(connection, "create schema s")
        execute(connection, "create table s.days ()")
        query(connection, "select ops.set_watermark('s.days', 'shop', 7, true)")
        assert policy.newest_seen(connection, "shop", "orders", readers) == 7


def compare_raw(shop: Archived) -> list[bool]:
    with connect(shop.settings) as connection:
        return [one.passed for one in compare.raw(connection)]


@pytest.mark.usefixtures("keys")
def test_a_bucket_is_a_place_as_well(year: Archived, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRANARY_ARCHIVE", f"s3://lake/old?endpoint_url={store.endpoint}&region=us-east-1")
    assert year.archive().rows == 6
    (one, _) = year.held()
    found = store.client("s3").list_objects_v2(Bucket="lake", Prefix=f"old/{one.path}")["Contents"]
    assert [each["Size"] for each in found] == [one.bytes]
    with connect(year.settings) as connection:
        (check,) = compare.archives(connection, year.settings)
    assert (check.passed, check.detail) == (True, "6 rows in 2 files")
    assert (year.restore().rows, year.ids()) == (6, [10, 11, 20, 21, 30, 31, 40, 41])
    assert archive.sweep(year.settings, "shop", kept_days=0) == 2
    assert store.client("s3").list_objects_v2(Bucket="lake", Prefix="old/").get("KeyCount") == 0
