"""Business dates, partition keys and windows, worked out by hand."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from granary.dagster import windows


@pytest.mark.parametrize(
    ("tags", "window"),
    [
        ({"dagster/partition": "2017-03-12"}, (date(2017, 3, 12), date(2017, 3, 12))),
        ({"dagster/partition": "2017-11-05"}, (date(2017, 11, 5), date(2017, 11, 5))),
        (
            {
                "dagster/asset_partition_range_start": "2017-01-31",
                "dagster/asset_partition_range_end": "2017-02-01",
            },
            (date(2017, 1, 31), date(2017, 2, 1)),
        ),
        (
            {"granary/window": "2017-01-01/2017-12-31", "dagster/partition": "2017-12-31"},
            (date(2017, 1, 1), date(2017, 12, 31)),
        ),
        ({"dagster/run_key": "x"}, None),
    ],
    ids=["spring forward", "fall back", "over a month's end", "the window beats its last day", "no partitions"],
)
def test_a_run_s_tags_tell_its_window(tags: dict[str, str], window: windows.Window | None) -> None:
    assert windows.window_of_tags(tags) == window


def test_the_tag_of_a_window_reads_back_as_that_window() -> None:
    window = (date(2017, 2, 27), date(2017, 3, 1))
    assert windows.window_tag(window) == {"granary/window": "2017-02-27/2017-03-01"}
    assert windows.window_of_tags(windows.window_tag(window)) == window


@pytest.mark.parametrize(
    ("first", "last", "count"),
    [
        (date(2017, 2, 27), date(2017, 3, 1), 3),
        (date(2017, 1, 1), date(2017, 12, 31), 365),
        (date(2016, 2, 28), date(2016, 3, 1), 3),
        (date(2017, 3, 11), date(2017, 3, 13), 3),
        (date(2017, 11, 4), date(2017, 11, 6), 3),
    ],
    ids=["month end", "a year", "leap day", "23 hours", "25 hours"],
)
def test_every_day_of_a_window_is_there_once(first: date, last: date, count: int) -> None:
    days = windows.days((first, last))
    assert len(days) == len(set(days)) == count
    assert (days[0], days[-1]) == (first, last)


def test_the_vars_of_dbt_are_the_inclusive_iso_dates() -> None:
    window = (date(2017, 1, 31), date(2017, 2, 1))
    assert windows.dbt_vars(window) == {"from_date": "2017-01-31", "to_date": "2017-02-01"}
    assert windows.dbt_vars(None) == {}


@pytest.mark.parametrize("keys", [("2017-02-01", "2017-01-31"), ("2017-02-30", None), ("yesterday", None)])
def test_a_range_backwards_or_a_key_that_is_no_date_is_refused(keys: tuple[str, str | None]) -> None:
    with pytest.raises(ValueError, match=r"range ends|day is out of range|Invalid isoformat"):
        windows.window_of_keys(*keys)


NEW, OLD = [date(2017, 1, 3), date(2017, 1, 1), date(2017, 1, 7)], [date(2017, 1, 2), date(2016, 12, 31)]


@pytest.mark.parametrize(
    ("waiting", "loaded", "full", "window"),
    [
        (NEW, [], False, (date(2017, 1, 1), date(2017, 1, 7))),
        (NEW, OLD, False, (date(2017, 1, 1), date(2017, 1, 7))),
        ([], OLD, False, (date(2017, 1, 2), date(2017, 1, 2))),
        ([], [], False, None),
        (NEW, OLD, True, (date(2016, 12, 31), date(2017, 1, 7))),
        ([], OLD, True, (date(2016, 12, 31), date(2017, 1, 2))),
    ],
    ids=["first", "new days", "nothing new", "never anything", "full refresh with new days", "full refresh"],
)
def test_a_run_covers_what_waits_or_else_the_newest_day(
    waiting: list[date], loaded: list[date], full: bool, window: windows.Window | None
) -> None:
    assert windows.window_of_run(waiting, loaded, full_refresh=full) == window


def test_dates_split_into_stretches_without_gaps() -> None:
    dates = [date(2017, 3, 1), date(2017, 2, 28), date(2017, 12, 24), date(2017, 12, 26), date(2017, 2, 28)]
    assert windows.split(dates) == [
        (date(2017, 2, 28), date(2017, 3, 1)),
        (date(2017, 12, 24), date(2017, 12, 24)),
        (date(2017, 12, 26), date(2017, 12, 26)),
    ]
    assert windows.split([]) == []


NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.parametrize(
    ("now", "closed"),
    [
        (datetime(2017, 7, 4, 5, 30, tzinfo=NEW_YORK), date(2017, 7, 3)),
        # 03:59 UTC is 23:59 of the day before in summer, and 22:59 in winter.
        (datetime(2017, 7, 4, 3, 59, tzinfo=timezone.utc), date(2017, 7, 2)),
        (datetime(2017, 7, 4, 4, 0, tzinfo=timezone.utc), date(2017, 7, 3)),
        (datetime(2017, 1, 4, 4, 59, tzinfo=timezone.utc), date(2017, 1, 2)),
        (datetime(2017, 1, 4, 5, 0, tzinfo=timezone.utc), date(2017, 1, 3)),
        # Clocks go forward on 12 March at 02:00 and back on 5 November at 02:00; both days close at midnight.
        (datetime(2017, 3, 13, 4, 0, tzinfo=timezone.utc), date(2017, 3, 12)),
        (datetime(2017, 3, 13, 3, 59, tzinfo=timezone.utc), date(2017, 3, 11)),
        (datetime(2017, 11, 6, 5, 0, tzinfo=timezone.utc), date(2017, 11, 5)),
        (datetime(2017, 11, 6, 4, 59, tzinfo=timezone.utc), date(2017, 11, 4)),
    ],
)
def test_a_business_date_closes_at_midnight_in_new_york(now: datetime, closed: date) -> None:
    assert windows.last_closed_date(now) == closed


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        windows.last_closed_date(datetime(2017, 1, 1) + timedelta(hours=1))  # noqa: DTZ001 - that is the point
