from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from demo import clock
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from pathlib import Path


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=timezone.utc)  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("day", "begins", "hours"),
    [
        (date(2017, 1, 1), utc(2017, 1, 1, 5), 24),
        (date(2017, 3, 12), utc(2017, 3, 12, 5), 23),
        (date(2017, 7, 4), utc(2017, 7, 4, 4), 24),
        (date(2017, 11, 5), utc(2017, 11, 5, 4), 25),
        (date(2017, 12, 31), utc(2017, 12, 31, 5), 24),
    ],
)
def test_a_business_date_is_a_day_in_new_york(day: date, begins: datetime, hours: int) -> None:
    assert clock.starts_at(day) == begins
    assert clock.ends_at(day) - clock.starts_at(day) == timedelta(hours=hours)


def test_weeks_begin_on_mondays_but_for_the_first() -> None:
    assert [clock.first_day(week) for week in (1, 2, 3, 52, 53)] == [
        date(2017, 1, 1),
        date(2017, 1, 2),
        date(2017, 1, 9),
        date(2017, 12, 18),
        date(2017, 12, 25),
    ]


def test_a_week_is_delivered_on_its_first_day() -> None:
    assert clock.weeks_between(clock.OPENING, date(2017, 1, 1)) == [1]
    assert clock.weeks_between(date(2017, 1, 1), date(2017, 1, 8)) == [2]
    assert clock.weeks_between(date(2017, 1, 2), date(2017, 1, 8)) == []
    assert clock.weeks_between(clock.OPENING, clock.LAST_DAY) == list(range(1, 54))


def test_days_between_leaves_out_the_first_and_keeps_the_last() -> None:
    assert clock.days_between(date(2017, 2, 27), date(2017, 3, 1)) == [date(2017, 2, 28), date(2017, 3, 1)]
    assert clock.days_between(date(2017, 3, 1), date(2017, 3, 1)) == []


def test_the_clock_is_kept_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "clock"
    assert clock.read(path) is None
    clock.write(path, date(2017, 5, 6))
    assert clock.read(path) == date(2017, 5, 6)
    path.write_text("half past nine")
    with pytest.raises(GranaryError, match="clock holds no date"):
        clock.read(path)
