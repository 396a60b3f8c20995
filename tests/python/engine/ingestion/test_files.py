"""The POS landing zone: incremental by file, corrections, contracts, damaged files, refused rows."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from granary.load.api import load_table, pending_dates
from granary.warehouse.errors import GranaryError
from tests.python.engine.ingestion.conftest import lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from granary.warehouse.settings import Settings
    from tests.python.engine.ingestion.conftest import Landing

    Rows = Callable[..., list[tuple[object, ...]]]

TOTAL = "select count(*), sum(amount) from raw_till.receipts"


def test_each_file_lands_once(warehouse: Settings, landing: Landing, rows: Rows) -> None:
    landing.put("2017-01-02", lines("2017-01-02"))
    landing.put("2017-01-03", lines("2017-01-03", 2))
    first = load_table(warehouse, "till", "receipts")
    assert (first.status, first.units, first.rows_read, first.rows_loaded) == ("loaded", 2, 5, 5)
    assert rows(TOTAL) == [(5, 1 + 2 + 3 + 1 + 2)]
    assert rows("select _row from raw_till.receipts where _load_id = $1 order by 1", first.load_ids[0]) == [
        (1,),
        (2,),
        (3,),
    ]
    again = load_table(warehouse, "till", "receipts")
    assert (again.status, again.units, again.rows_read) == ("unchanged", 0, 0)
    assert rows(TOTAL) == [(5, 9)]
    audit = "select unit, status, rows_read, rows_loaded, rows_quarantined from ops.load_audit order by load_id"
    assert rows(audit) == [
        ("receipts/2017-01-02.parquet", "loaded", 3, 3, 0),
        ("receipts/2017-01-03.parquet", "loaded", 2, 2, 0),
        ("receipts/*.parquet", "unchanged", 0, 0, 0),
    ]


def test_corrected_file_replaces_its_earlier_self(warehouse: Settings, landing: Landing, rows: Rows) -> None:
    landing.put("2017-01-02", lines("2017-01-02", 3))
    landing.put("2017-01-03", lines("2017-01-03", 1))
    before = load_table(warehouse, "till", "receipts")
    landing.put("2017-01-02", lines("2017-01-02", 2))
    after = load_table(warehouse, "till", "receipts")
    assert (after.units, after.rows_loaded, after.rows_deleted) == (1, 2, 3)
    assert rows(TOTAL) == [(3, 1 + 2 + 1)]
    superseded = "select load_id, superseded_by from ops.load_audit where superseded_by is not null"
    assert rows(superseded) == [(before.load_ids[0], after.load_ids[0])]


def test_corrected_file_may_become_empty(warehouse: Settings, landing: Landing, rows: Rows) -> None:
    landing.put("2017-01-02", lines("2017-01-02", 3))
    load_table(warehouse, "till", "receipts")
    landing.put("2017-01-02", lines("2017-01-02", 3).slice(0, 0))
    assert load_table(warehouse, "till", "receipts").rows_deleted == 3
    assert rows("select count(*) from raw_till.receipts") == [(0,)]


def test_full_refresh_leaves_the_same_rows(warehouse: Settings, landing: Landing, rows: Rows) -> None:
    landing.put("2017-01-02", lines("2017-01-02", 3))
    load_table(warehouse, "till", "receipts")
    again = load_table(warehouse, "till", "receipts", full_refresh=True)
    assert (again.rows_loaded, again.rows_deleted) == (3, 3)
    assert rows(TOTAL) == [(3, 6)]


@pytest.mark.parametrize("full_refresh", [False, True])
def test_rows_of_a_new_table_are_visible_without_a_mark_of_its_first_reader(
    warehouse: Settings, landing: Landing, rows: Rows, full_refresh: bool
) -> None:
    seen = "select relallvisible, relpages from pg_class where oid = 'raw_till.receipts'::regclass"
    landing.put("2017-01-02", lines("2017-01-02", 3))
    load_table(warehouse, "till", "receipts")
    if full_refresh:
        load_table(warehouse, "till", "receipts", full_refresh=True)
    assert rows(seen) == [(1, 1)]
    landing.put("2017-01-03", lines("2017-01-03", 2))
    load_table(warehouse, "till", "receipts")
    assert rows(seen) == [(0, 1)]
    assert rows(TOTAL) == [(5, 9)]


def test_full_refresh_below_the_floor_is_refused(warehouse: Settings, landing: Landing, rows: Rows) -> None:
    landing.put("2017-01-02", lines("2017-01-02", 3))
    gone = landing.put("2017-01-03", lines("2017-01-03", 5))
    load_table(warehouse, "till", "receipts")
    gone.unlink()
    with pytest.raises(GranaryError, match=r"the source offers 3 rows, the table has 8: below its floor of 50%"):
        load_table(warehouse, "till", "receipts", full_refresh=True)
    assert rows("select count(*) from raw_till.receipts") == [(8,)]


def test_full_refresh_of_an_empty_source_empties_nothing(warehouse: Settings, landing: Landing, rows: Rows) -> None:
    gone = landing.put("2017-01-02", lines("2017-01-02", 1))
    load_table(warehouse, "till", "receipts")
    gone.unlink()
    with pytest.raises(GranaryError, match="the source offers 0 rows"):
        load_table(warehouse, "till", "receipts", full_refresh=True)
    assert rows(TOTAL) == [(1, 1)]


def test_window_takes_only_its_days(warehouse: Settings, landing: Landing, rows: Rows) -> None:
    for day in ("2017-03-11", "2017-03-12", "2017-03-13"):
        landing.put(day, lines(day, 1))
    assert pending_dates(warehouse, "till") == [date(2017, 3, 11), date(2017, 3, 12), date(2017, 3, 13)]
    load_table(warehouse, "till", "receipts", window=(date(2017, 3, 12), date(2017, 3, 12)))
    assert rows("select distinct paid_at::date from raw_till.receipts") == [(date(2017, 3, 12),)]
    assert pending_dates(warehouse, "till") == [date(2017, 3, 11), date(2017, 3, 13)]


def test_dry_run_loads_nothing(warehouse: Settings, landing: Landing, rows: Rows) -> None:
    landing.put("2017-01-02", lines("2017-01-02", 3))
    assert load_table(warehouse, "till", "receipts", dry_run=True).rows_loaded == 3
    assert rows("select to_regclass('raw_till.receipts')::text, (select count(*) from ops.load_audit)") == [(None, 0)]


def _refused_whole(warehouse: Settings, rows: Rows, match: str) -> None:
    """Assert that a load fails with these words, leaves no table, and keeps the failure in the ledger."""
    with pytest.raises(GranaryError, match=match):
        load_table(warehouse, "till", "receipts")
    assert rows("select to_regclass('raw_till.receipts')::text") == [(None,)]
    ((status, error),) = rows("select status, error from ops.load_audit")
    assert status == "failed"
    assert match.replace("\\", "") in str(error)


def test_truncated_parquet_is_quarantined_as_a_file(warehouse: Settings, landing: Landing, rows: Rows) -> None:
    landing.put("2017-01-02", lines("2017-01-02", 3))
    whole = landing.put("2017-01-03", lines("2017-01-03", 3)).read_bytes()
    landing.put("2017-01-03", whole[: len(whole) // 2])
    result = load_table(warehouse, "till", "receipts")
    assert (result.rows_loaded, result.units_unreadable) == (3, ("receipts/2017-01-03.parquet",))
    ((reason,),) = rows("select reason from ops.quarantine")
    assert str(reason).startswith("the file is damaged or not parquet")
    landing.put("2017-01-03", whole)
    assert load_table(warehouse, "till", "receipts").rows_loaded == 3
    assert rows(TOTAL) == [(6, 12)]


def test_what_is_no_days_file_is_quarantined_alone(
    warehouse: Settings, landing: Landing, tmp_path: Path, rows: Rows
) -> None:
    (tmp_path / "secret").write_text("x")
    (landing.folder / "receipts" / "2017-01-02.parquet").mkdir()
    (landing.folder / "receipts" / "2017-01-03.parquet").symlink_to(tmp_path / "secret")
    landing.put("2017-02-30", lines("2017-01-04"))
    landing.put("report", lines("2017-01-04"))
    landing.put("2017-01-05", lines("2017-01-05"))
    result = load_table(warehouse, "till", "receipts")
    assert (result.units_loaded, result.rows_loaded) == (("receipts/2017-01-05.parquet",), 3)
    assert rows("select unit, reason from ops.quarantine order by unit") == [
        ("receipts/2017-01-02.parquet", "it is a folder with a file's name"),
        ("receipts/2017-01-03.parquet", "it is a link that leaves the landing zone"),
        ("receipts/2017-02-30.parquet", "the file's name is not a date (YYYY-MM-DD)"),
        ("receipts/report.parquet", "the file is not named by its business date (YYYY-MM-DD)"),
    ]
    assert pending_dates(warehouse, "till") == []
    assert load_table(warehouse, "till", "receipts").status == "unchanged"


def test_missing_landing_zone(warehouse: Settings, landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRANARY_TILL_LANDING", str(landing.folder / "nowhere"))
    with pytest.raises(GranaryError, match="the landing zone of receipts is missing"):
        load_table(warehouse, "till", "receipts")


def test_file_still_being_written_is_left_alone(warehouse: Settings, landing: Landing) -> None:
    landing.put(".2017-01-02", b"half")
    landing.put("_2017-01-02", b"half")
    assert load_table(warehouse, "till", "receipts").status == "unchanged"


def test_wrong_column_type(warehouse: Settings, landing: Landing, rows: Rows) -> None:
    landing.put("2017-01-02", lines("2017-01-02", 2, quantity=["one", "two"]))
    _refused_whole(warehouse, rows, "column quantity is retyped: int64 was agreed, string came")
    assert rows("select column_name, change from ops.schema_changes") == [("quantity", "retyped")]


def test_missing_column(warehouse: Settings, landing: Landing, rows: Rows) -> None:
    landing.put("2017-01-02", lines("2017-01-02", 2).drop_columns(["week"]))
    found = ", ".join(name for name in lines("2017-01-02").column_names if name != "week")
    words = f"column week is missing: the contract has it, the source has not; what came are {found}"
    _refused_whole(warehouse, rows, words)
    assert rows("select column_name, change from ops.schema_changes") == [("week", "missing")]


def test_new_column_of_a_later_file_is_added_and_reported(warehouse: Settings, landing: Landing, rows: Rows) -> None:
    landing.put("2017-01-02", lines("2017-01-02", 1))
    landing.put("2017-01-03", lines("2017-01-03", 1).append_column("till", pa.array([9], pa.int16())))
    landing.put("2017-01-04", lines("2017-01-04", 1))
    assert load_table(warehouse, "till", "receipts").rows_loaded == 3
    assert rows("select paid_at::date::text, till from raw_till.receipts order by 1") == [
        ("2017-01-02", None),
        ("2017-01-03", 9),
        ("2017-01-04", None),
    ]
    assert rows("select column_name, change, detail from ops.schema_changes") == [("till", "added", "bigint")]
    landing.put("2017-01-05", lines("2017-01-05", 1).append_column("till", pa.array([8], pa.int16())))
    load_table(warehouse, "till", "receipts")
    assert rows("select count(*), max(till) from raw_till.receipts") == [(4, 9)]
    assert rows("select count(*) from ops.schema_changes") == [(1,)]


def test_hostile_column_name_is_only_a_name(warehouse: Settings, landing: Landing, rows: Rows) -> None:
    name = '"; drop table ops.load_audit; --'
    landing.put("2017-01-02", lines("2017-01-02", 1).append_column(name, pa.array(["x"])))
    assert load_table(warehouse, "till", "receipts").rows_loaded == 1
    assert rows("select count(*) from ops.load_audit") == [(1,)]


def test_refused_rows_are_kept_and_counted(warehouse: Settings, landing: Landing, rows: Rows) -> None:
    quantity = [1] * 400
    quantity[6] = -1
    landing.put("2017-01-02", lines("2017-01-02", 400, quantity=quantity))
    result = load_table(warehouse, "till", "receipts")
    assert (result.rows_read, result.rows_loaded, result.rows_quarantined) == (400, 399, 1)
    assert rows("select unit, row_number, column_name, reason, payload ->> 'article_id' from ops.quarantine") == [
        ("receipts/2017-01-02.parquet", 7, "quantity", "is below 0", "7")
    ]
    assert rows("select count(*) from raw_till.receipts where _row = 7") == [(0,)]
    assert rows("select max(_row) from raw_till.receipts") == [(400,)]


def test_too_many_refused_rows_change_nothing(warehouse: Settings, landing: Landing, rows: Rows) -> None:
    landing.put("2017-01-02", lines("2017-01-02", 3, member_id=[1, None, 3]))
    _refused_whole(warehouse, rows, "1 of 3 rows break the contract; row 2: member_id is null")
    assert rows("select error like '%(till.receipts, receipts/2017-01-02.parquet)%' from ops.load_audit") == [(True,)]
    kept = "select unit, row_number, column_name, reason, payload ->> 'article_id' from ops.quarantine"
    mine = [("receipts/2017-01-02.parquet", 2, "member_id", "is null", "2")]
    assert rows(f"{kept} where status = 'failed'") == rows(kept) == mine
    with pytest.raises(GranaryError, match="1 of 3 rows"):
        load_table(warehouse, "till", "receipts")
    assert rows(kept) == mine  # once, however often the load fails
    landing.put("2017-01-02", lines("2017-01-02", 3))
    assert load_table(warehouse, "till", "receipts").rows_loaded == 3
    assert rows("select status from ops.quarantine") == [("superseded",)]


def test_a_days_bad_data_hold_no_other_day(warehouse: Settings, landing: Landing, rows: Rows) -> None:
    """A column is gone, too many rows are refused, a column is retyped: each costs its day, and no other."""
    for day in ("2017-01-02", "2017-01-04", "2017-01-06", "2017-01-08"):
        landing.put(day, lines(day, 2))
    landing.put("2017-01-03", lines("2017-01-03", 2).drop_columns(["week"]))
    landing.put("2017-01-05", lines("2017-01-05", 3, member_id=[1, None, 3]))
    landing.put("2017-01-07", lines("2017-01-07", 2, quantity=["one", "two"]))
    result = load_table(warehouse, "till", "receipts")
    assert result.units_loaded == tuple(f"receipts/2017-01-0{day}.parquet" for day in (2, 4, 6, 8))
    assert [(one.unit[-18:-8], one.outcome) for one in result.failed] == [
        ("2017-01-03", "failed"),
        ("2017-01-07", "failed"),
        ("2017-01-05", "failed"),
    ]
    assert rows(TOTAL) == [(8, 12)]
    assert rows("select unit, rows_loaded from ops.load_audit where status = 'failed' order by unit") == [
        (f"receipts/2017-01-0{day}.parquet", 0) for day in (3, 5, 7)
    ]
    assert pending_dates(warehouse, "till") == [date(2017, 1, day) for day in (3, 5, 7)]
    landing.put("2017-01-03", lines("2017-01-03", 2))
    again = load_table(warehouse, "till", "receipts")
    assert (again.units_loaded, len(again.failed)) == (("receipts/2017-01-03.parquet",), 2)
    assert rows(TOTAL) == [(10, 15)]
    with pytest.raises(GranaryError, match="1 more of its units failed too"):
        load_table(warehouse, "till", "receipts")


def test_a_full_refresh_without_a_days_rows_is_refused(warehouse: Settings, landing: Landing, rows: Rows) -> None:
    landing.put("2017-01-02", lines("2017-01-02", 3))
    landing.put("2017-01-03", lines("2017-01-03", 1))
    load_table(warehouse, "till", "receipts")
    for broken in (b"damaged", lines("2017-01-03", 1).drop_columns(["week"])):
        landing.put("2017-01-03", broken)
        with pytest.raises(GranaryError, match=r"damaged|week is missing"):
            load_table(warehouse, "till", "receipts", full_refresh=True)
        assert rows(TOTAL) == [(4, 7)]


def test_nanoseconds_are_cut_to_microseconds(warehouse: Settings, landing: Landing, rows: Rows) -> None:
    when = pa.array([1_483_358_400_123_456_789], pa.timestamp("ns"))
    index = lines("2017-01-02", 1).schema.get_field_index("paid_at")
    landing.put("2017-01-02", lines("2017-01-02", 1).set_column(index, "paid_at", when))
    load_table(warehouse, "till", "receipts")
    expected = datetime.fromisoformat("2017-01-02T12:00:00.123456")
    assert rows("select paid_at from raw_till.receipts") == [(expected,)]
