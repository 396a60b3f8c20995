"""Two copies of seven households in two years: four times the rows, the same distributions, no key twice."""

from __future__ import annotations

import json
from collections import Counter
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from demo import crm, retailer, stock
from demo.clock import LAST_DAY, days_between
from demo.copies import Scale
from demo.data import Data
from demo.history import changed_at
from demo.scale import scale_of
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from granary.warehouse.settings import Settings

NEW_YORK = ZoneInfo("America/New_York")
FOUR = Scale(copies=2, years=2)


@pytest.fixture(scope="module")
def scaled(few: Data) -> Data:
    return Data(few.folder, FOUR)


@pytest.fixture(scope="module")
def deliveries(scaled: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deliveries")
    list(stock.prepare(scaled, folder))
    return folder


@pytest.fixture(scope="module")
def days(deliveries: Path) -> dict[date, pa.Table]:
    paths = sorted((deliveries / "pos" / "transactions").iterdir())
    return {date.fromisoformat(path.stem): pq.read_table(path) for path in paths}


at = datetime.fromisoformat


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def local(lines: pa.Table) -> list[datetime]:
    instants = lines["transaction_timestamp"].to_pylist()
    return [instant.replace(tzinfo=timezone.utc).astimezone(NEW_YORK) for instant in instants]


@pytest.mark.parametrize(
    ("factor", "years", "copies_and_years"),
    [
        (1, None, (1, 1)),
        (2, None, (2, 1)),
        (4, None, (2, 2)),
        (8, None, (4, 2)),
        (16, None, (4, 4)),
        (16, 8, (2, 8)),
        (4, 1, (4, 1)),
    ],
)
def test_a_factor_is_copies_times_years(factor: int, years: int | None, copies_and_years: tuple[int, int]) -> None:
    scale = scale_of(factor, years)
    assert (scale.copies, scale.years) == copies_and_years
    assert scale.factor == factor


@pytest.mark.parametrize(("factor", "years"), [(4, 3), (0, None), (4, 0)])
def test_what_is_no_factor_is_refused(factor: int, years: int | None) -> None:
    with pytest.raises(GranaryError, match=f"{factor} times the sample"):
        scale_of(factor, years)


def test_a_year_that_is_not_over_is_refused() -> None:
    assert Scale(years=3).last_day == date(2020, 1, 12)
    with pytest.raises(GranaryError, match="100 years of the sample end on 2118-07-24, which is not over"):
        Scale(years=100)


def test_the_same_is_made_in_the_same_bytes(scaled: Data, deliveries: Path, tmp_path: Path) -> None:
    list(stock.prepare(scaled, tmp_path))
    assert contents(tmp_path) == contents(deliveries)


def test_the_first_copy_of_the_first_year_is_the_sample(few: Data, days: dict[date, pa.Table]) -> None:
    real = few.read("transactions")
    first = pa.concat_tables(days.values())
    first = first.filter(pc.less(first["basket_id"], 100_000_000_000))
    assert first.equals(real)


def test_there_are_four_times_the_lines_and_dollars(days: dict[date, pa.Table]) -> None:
    lines = pa.concat_tables(days.values())
    assert (len(days), lines.num_rows) == (2 * 215, 4 * 3_657)
    assert pc.sum(pc.round(pc.multiply(lines["sales_value"], 100.0)).cast(pa.int64())).as_py() == 4 * 1_062_536


def test_no_key_collides(days: dict[date, pa.Table]) -> None:
    lines = pa.concat_tables(days.values())
    distinct = {name: len(lines[name].unique()) for name in ("household_id", "store_id", "basket_id")}
    assert distinct == {"household_id": 2 * 7, "store_id": 2 * 25, "basket_id": 4 * 316}
    assert lines.group_by(["basket_id", "product_id"]).aggregate([]).num_rows == 4 * 3_657
    of_baskets = lines.group_by(["basket_id", "household_id", "store_id", "transaction_timestamp"]).aggregate([])
    assert of_baskets.num_rows == 4 * 316


def test_weekdays_and_hours_are_those_of_the_sample(few: Data, days: dict[date, pa.Table]) -> None:
    weekdays = Counter[str]()
    for day, lines in days.items():
        weekdays[f"{day:%a}"] += lines.num_rows
    assert weekdays == {
        "Mon": 1540, "Tue": 1340, "Wed": 2128, "Thu": 3960, "Fri": 1764, "Sat": 1736, "Sun": 2160,
    }  # fmt: skip
    real = Counter(sold.time() for sold in local(few.read("transactions")))
    found = Counter(sold.time() for lines in days.values() for sold in local(lines))
    assert found == {time: 4 * count for time, count in real.items()}


def test_each_line_is_of_its_day_and_week(days: dict[date, pa.Table]) -> None:
    assert max(days) == FOUR.last_day == date(2019, 1, 6)
    assert not any(date(2018, 1, 1) <= day <= date(2018, 1, 6) for day in days)
    for day, lines in days.items():
        assert {sold.date() for sold in local(lines)} == {day}
        assert lines["week"].unique().to_pylist() == [(day - date(2016, 12, 26)).days // 7 + 1]


def test_the_hours_that_clocks_skip_and_repeat() -> None:
    utc = [at("2017-03-05T07:30"), at("2017-11-05T05:30"), at("2017-11-05T06:30")]
    sold = pa.table({"transaction_timestamp": pa.array(utc, pa.timestamp("us"))})
    # 371 days after March 5 at 2:30 is the morning on which 2:30 is skipped; November 5 has its 1:30 twice.
    later = [row["transaction_timestamp"] for year, rows in FOUR.by_year(sold) if year for row in rows.to_pylist()]
    assert later == [at("2018-03-11T07:00"), at("2018-11-11T06:30"), at("2018-11-11T06:30")]


def test_promotions_come_by_the_week_of_each_year(deliveries: Path) -> None:
    paths = sorted((deliveries / "pos" / "promotions").iterdir(), key=lambda path: int(path.stem.split("-")[1]))
    assert [path.name for path in paths] == [f"week-{week:02}.parquet" for week in range(1, 107)]
    tables = [pq.read_table(path) for path in paths]
    assert [table["week"].unique().to_pylist() for table in tables] == [[week] for week in range(1, 107)]
    assert [tables[n].num_rows for n in (0, 52, 53, 105)] == [2 * 4_200, 2 * 4_107, 2 * 4_200, 2 * 4_107]
    assert sum(table.num_rows for table in tables) == 4 * 222_519


def test_a_share_of_the_promotions_is_those_of_a_share_of_the_products(few: Data, tmp_path: Path) -> None:
    list(stock.prepare(Data(few.folder, Scale(promotions=0.25)), tmp_path))
    sampled = pq.read_table(tmp_path / "pos" / "promotions")
    whole = pa.Table.from_batches(few.batches("promotions"))
    kept = whole.filter(pc.is_in(whole["product_id"], sampled["product_id"].unique()))
    assert sampled.num_rows == kept.num_rows == 57_208
    assert len(sampled["product_id"].unique()) == 388


def test_marketing_has_the_campaigns_of_each_year_for_the_households_of_both_copies(scaled: Data) -> None:
    campaigns, recipients = scaled.read("campaign_descriptions"), scaled.read("campaigns")
    assert (len(campaigns), len(campaigns["campaign_id"].unique())) == (2 * 13, 2 * 13)
    assert {
        (row["start_date"], row["end_date"]) for row in campaigns.to_pylist() if row["campaign_id"] % 100 == 26
    } == {
        (at("2016-12-28"), at("2017-02-19")),
        (at("2018-01-03"), at("2018-02-25")),
    }
    assert len(recipients) == recipients.group_by(["campaign_id", "household_id"]).aggregate([]).num_rows == 4 * 21
    assert len(scaled.read("coupons")) == 2 * 2_762
    assert len(scaled.read("products")) == 1_968


def test_events_have_ids_of_their_own(deliveries: Path) -> None:
    paths = sorted((deliveries / "events" / "coupon_redemptions").iterdir())
    events = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    assert (len(events), len({event["event_id"] for event in events})) == (4 * 5, 4 * 5)
    assert {event["occurred_at"][:10] for event in events} == {path.stem for path in paths}
    assert Counter(event["campaign_id"] for event in events)[108] == Counter(e["campaign_id"] for e in events)[8]


def test_changes_of_the_crm_are_spread_over_the_years() -> None:
    first = {key: changed_at(key) for key in (3, 7, 28, 32)}
    assert {key: changed_at(key, years=2) - first[key] for key in first} == {
        3: timedelta(0), 7: timedelta(0), 28: timedelta(371), 32: timedelta(371),
    }  # fmt: skip


def test_the_retailer_plays_every_year_back(place: Callable[[str], Settings]) -> None:
    own = place("scaled")
    retailer.open_for_business(own, scale=FOUR)
    assert "GRANARY_LAST_DATE=2019-01-06" in (own.home / "sources.env").read_text().splitlines()
    with connect(own, crm.database(own)) as connection:
        assert query(connection, "select count(*), min(household_id), max(household_id) from households") == [
            (14, 1, 10_007)
        ]
        assert query(connection, "select count(*), count(distinct store_id) from stores") == [(50, 50)]
    retailer.advance(own, LAST_DAY)
    moved = retailer.advance(own, date(2019, 1, 6))
    landing = own.home / "demo" / "landing" / "pos"
    assert len(list((landing / "transactions").iterdir())) == 2 * 215
    assert len(list((landing / "promotions").iterdir())) == 2 * 53
    assert len(days_between(moved.before, moved.after)) == 371
    with pytest.raises(GranaryError, match="year ends on 2019-01-06"):
        retailer.advance(own, date(2019, 1, 7))
    with pytest.raises(GranaryError, match=r"is open at Scale\(copies=2, years=2, .*not at Scale\(copies=1"):
        retailer.open_for_business(own)
