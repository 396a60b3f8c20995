"""The files of the whole year: the tills' and the event stream's."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from datetime import date, datetime, timezone
from typing import TYPE_CHECKING
from uuid import UUID
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from demo.events import NAMESPACE

if TYPE_CHECKING:
    from pathlib import Path

    from granary.warehouse.settings import Settings

NEW_YORK = ZoneInfo("America/New_York")


@pytest.fixture(scope="module")
def landing(year: Settings) -> Path:
    return year.home / "demo" / "landing"


@pytest.fixture(scope="module")
def days(landing: Path) -> dict[str, pa.Table]:
    return {path.stem: pq.read_table(path) for path in sorted((landing / "pos" / "transactions").iterdir())}


def test_there_is_a_file_for_each_day_but_christmas(days: dict[str, pa.Table]) -> None:
    assert len(days) == 364
    assert (min(days), max(days)) == ("2017-01-01", "2017-12-31")
    assert "2017-12-25" not in days


def test_the_days_add_up_to_the_cent(days: dict[str, pa.Table]) -> None:
    whole = pa.concat_tables(days.values())
    assert whole.num_rows == 1_469_307
    sums = {
        name: pc.sum(pc.round(pc.multiply(whole[name], 100.0)).cast(pa.int64())).as_py()
        for name in ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")
    }
    assert sums == {
        "sales_value": 459_603_958,
        "retail_disc": 79_165_064,
        "coupon_disc": 2_635_990,
        "coupon_match_disc": 454_265,
    }
    assert (len(whole["basket_id"].unique()), len(whole["store_id"].unique())) == (155_848, 457)


def test_the_days_on_which_the_clocks_change(days: dict[str, pa.Table]) -> None:
    assert days["2017-03-12"].num_rows == 5_577
    assert days["2017-11-05"].num_rows == 6_190


def test_each_day_holds_the_lines_of_that_day_in_new_york(days: dict[str, pa.Table]) -> None:
    for day, table in days.items():
        ends = pc.min_max(table["transaction_timestamp"]).as_py()
        in_utc = (ends["min"].replace(tzinfo=timezone.utc), ends["max"].replace(tzinfo=timezone.utc))
        assert {str(each.astimezone(NEW_YORK).date()) for each in in_utc} == {day}


def test_transactions_have_the_columns_of_the_source(days: dict[str, pa.Table]) -> None:
    names = ["household_id", "store_id", "basket_id", "product_id", "quantity"]
    money = ["sales_value", "retail_disc", "coupon_disc", "coupon_match_disc"]
    expected = pa.schema(
        [(name, pa.int64()) for name in names]
        + [(name, pa.float64()) for name in money]
        + [("week", pa.int64()), ("transaction_timestamp", pa.timestamp("us"))]
    )
    assert all(table.schema.equals(expected) for table in days.values())


def test_promotions_come_by_the_week(landing: Path) -> None:
    paths = sorted((landing / "pos" / "promotions").iterdir())
    assert [path.name for path in paths] == [f"week-{week:02}.parquet" for week in range(1, 54)]
    assert [pq.read_metadata(path).num_rows for path in paths][:2] == [386_086, 355_244]
    assert sum(pq.read_metadata(path).num_rows for path in paths) == 20_940_529
    for week in (1, 27, 53):
        table = pq.read_table(paths[week - 1])
        assert table["week"].unique().to_pylist() == [week]
        assert dict(zip(table.column_names, map(str, table.schema.types), strict=True)) == {
            "product_id": "int64",
            "store_id": "int64",
            "display_location": "string",
            "mailer_location": "string",
            "week": "int64",
        }


def test_redemptions_are_events(landing: Path) -> None:
    files = {path.stem: path.read_text().splitlines() for path in (landing / "events").glob("*/*.jsonl")}
    events = [json.loads(line) for lines in files.values() for line in lines]
    assert (len(files), len(events), len({event["event_id"] for event in events})) == (263, 2_102, 2_102)
    assert all(
        datetime.fromisoformat(json.loads(line)["occurred_at"]).astimezone(NEW_YORK).date() == date.fromisoformat(day)
        for day, lines in files.items()
        for line in lines
    )
    offsets = Counter(event["occurred_at"][10:] for event in events)
    assert set(offsets) == {"T00:00:00-05:00", "T00:00:00-04:00"}


def test_one_event_in_full(landing: Path) -> None:
    digest = hashlib.sha1(NAMESPACE.bytes + b"1029/51380041013/26/2017-01-01").digest()
    assert json.loads((landing / "events/coupon_redemptions/2017-01-01.jsonl").read_text().splitlines()[0]) == {
        "event_id": str(UUID(bytes=digest[:16], version=5)),
        "type": "coupon_redeemed",
        "occurred_at": "2017-01-01T00:00:00-05:00",
        "household_id": 1029,
        "coupon_upc": 51380041013,
        "campaign_id": 26,
    }
