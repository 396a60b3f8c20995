"""Days off of the project's country: less or more may come, at other hours, and on a public holiday nothing at all."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest

from granary.load import days_off, freshness
from granary.load.days_off import DaysOff, country_of
from granary.load.freshness import Freshness
from granary.monitoring.anomalies.config import Config
from granary.monitoring.anomalies.judge import Rules, Seen, judge
from granary.warehouse.errors import GranaryError

USA = DaysOff("US", "America/New_York")
THANKSGIVING = date(2026, 11, 26)


@pytest.mark.parametrize(
    ("zone", "country"),
    [("America/New_York", "US"), ("Europe/Berlin", "DE"), ("Asia/Tokyo", "JP"), ("UTC", ""), ("Etc/GMT+5", "")],
)
def test_the_country_is_that_of_the_time_zone(zone: str, country: str) -> None:
    assert country_of(zone) == country


@pytest.mark.parametrize(("said", "country"), [(None, "US"), ("DE", "DE"), ("", "")])
def test_unless_the_project_names_one(monkeypatch: pytest.MonkeyPatch, said: str | None, country: str) -> None:
    monkeypatch.setattr(days_off, "project_vars", lambda: {} if said is None else {"country": said})
    assert days_off.days_off.__wrapped__().country == country


def test_a_country_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(days_off, "project_vars", lambda: {"country": "Utopia"})
    with pytest.raises(GranaryError, match="country 'Utopia' is not known"):
        days_off.days_off.__wrapped__()


def test_a_public_holiday_closes_and_days_that_people_keep_are_days_off_too() -> None:
    assert [USA.closes(date(2017, 12, day)) for day in (24, 25, 26)] == [False, True, False]
    assert [USA.is_near(date(2017, 4, day)) for day in (15, 16, 17, 18)] == [True, True, True, False]  # Easter
    assert not USA.closes(date(2017, 4, 16))
    assert not days_off.NONE.is_near(date(2017, 12, 25))


def verdicts(day: date, rows: float, hours: float = 15) -> set[str]:
    """Return the metrics that are unusual on a day, after eight weeks of 100 rows at three in the afternoon."""

    def seen(at: date, count: float, mean: float) -> Seen:
        times = {("sold_at", metric): mean for metric in ("mean", "p10", "p50", "p90")} if count else {}
        # The tenths are apart, so that there is a range.
        times |= {("sold_at", "p10"): mean - 4, ("sold_at", "p90"): mean + 4} if count else {}
        return Seen(at, "", {("", "rows"): count, **times}, {})

    history = [*(seen(day - timedelta(days=n), 100, 15) for n in range(56, 0, -1)), seen(day, rows, hours)]
    rules = Rules(Config(days_off=USA), times=frozenset({"sold_at"}))
    return {one.metric for one in judge(history, 56, rules) if one.is_anomaly}


def test_near_a_day_off_the_band_of_counts_is_half_as_wide_again() -> None:
    # sqrt(100) is 10, six spreads of 0.5 are 3, of which four fifths count downwards: 7.6 squared is 57.76. Half as
    # wide again is 6.4 squared: 40.96; and upwards 14.5 squared and 20: 230.25.
    usual = date(2026, 11, 19)
    assert verdicts(usual, 50) == {"rows"}
    for day in (-1, 0, 1):
        near = THANKSGIVING + timedelta(days=day)
        assert verdicts(near, 45) == verdicts(near, 230) == set()
        assert verdicts(near, 40) == verdicts(near, 231) == {"rows"}


def test_near_a_public_holiday_the_hours_are_other_ones() -> None:
    assert verdicts(date(2026, 11, 19), 100, 9) == {"mean", "p10", "p50", "p90"}
    assert verdicts(THANKSGIVING, 100, 9) == set()
    assert verdicts(date(2026, 10, 31), 100, 9) == {"mean", "p10", "p50", "p90"}  # Halloween is kept, and not public


def test_on_a_public_holiday_nothing_has_to_come() -> None:
    assert verdicts(THANKSGIVING, 0) == set()
    assert verdicts(THANKSGIVING + timedelta(days=1), 0) == {"rows"}


def test_a_source_may_rest_on_a_public_holiday(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freshness, "days_off", lambda: USA)
    morning = datetime(2026, 11, 26, 11, tzinfo=timezone.utc)  # six o'clock in New York, with what the 25th brought

    def late(hours: float, since: datetime = morning) -> bool:
        return Freshness("till", "receipts", since, timedelta(hours=hours), timedelta(hours=36)).is_late

    assert [late(hours) for hours in (36, 59, 60.5)] == [False, False, True]
    assert [late(hours, morning + timedelta(days=1)) for hours in (35, 37)] == [False, True]
