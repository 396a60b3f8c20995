"""What is expected of a value by those before it; every number here was worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from granary.monitoring.anomalies.bands import Band, Point, band, distance
from granary.monitoring.anomalies.config import NOTHING_SAID, read
from granary.monitoring.anomalies.judge import Rules, Seen, anchors, judge, reference, shift
from granary.monitoring.anomalies.metrics import told
from granary.monitoring.anomalies.plot import Drawn, spark, svg
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Sequence

MONDAY = date(2026, 3, 2)


def days(values: Sequence[float], first: date = MONDAY, rows: float = 1_000) -> list[Point]:
    return [Point(first + timedelta(days=n), value, rows) for n, value in enumerate(values)]


def history(values: Sequence[float], first: date = MONDAY) -> list[Seen]:
    return [Seen(first + timedelta(days=n), "", {("", "rows"): value}, {}) for n, value in enumerate(values)]


def rounded(found: Band | None) -> tuple[float, float, float]:
    assert found is not None
    return round(found.low, 2), round(found.expected, 2), round(found.high, 2)


def test_nothing_is_expected_of_the_first_fourteen_days() -> None:
    at = Point(MONDAY + timedelta(days=14), 0, 0)
    assert band(days([100] * 13), replace(at, day=MONDAY + timedelta(days=13)), "count") is None
    # sqrt(100) = 10; the least spread is 0.5, six of them are 3, of which four fifths count downwards: 7.6 squared,
    # and 13 squared and 20.
    assert rounded(band(days([100] * 14), at, "count")) == (57.76, 100, 189)


def test_a_weekday_is_compared_with_its_own_kind() -> None:
    four_weeks = days([100, 100, 100, 100, 100, 100, 400] * 4)
    sunday, monday = Point(date(2026, 4, 5), 0, 0), Point(date(2026, 3, 30), 0, 0)
    # sqrt(400) = 20, its spread at least 3.5 %: 0.7, six of them 4.2: 16.64 squared, and 24.2 squared and 20.
    assert rounded(band(four_weeks, sunday, "count")) == (276.89, 400, 605.64)
    assert rounded(band(four_weeks, monday, "count")) == (57.76, 100, 189)


def test_what_is_wrong_on_nearly_half_of_the_days_moves_neither_level_nor_spread() -> None:
    broken = days([100, 10_000] * 13 + [100, 100])
    assert rounded(band(broken, Point(date(2026, 4, 1), 0, 0), "count", weekdays=False)) == (57.76, 100, 189)


def test_the_spread_of_the_days_before_is_the_width() -> None:
    # Levels 90, 100, 110 in turns: median 100, deviations 10, 0, 10: their median is 10, or 14.826 as a spread.
    turns = days([90, 100, 110] * 7)
    found = band(turns, Point(date(2026, 3, 23), 0, 0), "level", weekdays=False)
    assert rounded(found) == (11.04, 100, 188.96)
    assert rounded(band(turns, Point(date(2026, 3, 23), 0, 0), "level", weekdays=False, sensitivity=2)) == (
        55.52,
        100,
        144.48,
    )


def test_a_level_that_moves_slowly_is_followed_by_one_spread_at_most() -> None:
    steady = days([100.0] * 28 + [103.0] * 14)
    found = band(steady, Point(date(2026, 4, 13), 0, 0), "level", weekdays=False)
    assert found is not None
    assert found.expected == 100  # two thirds of the days did not move at all: their spread is 0


def test_shares_of_many_rows_have_a_narrow_band_and_those_of_few_rows_a_wide_one() -> None:
    # arcsin(sqrt(0)) = 0; least spread 0.02, six of them 0.12: sin(0.12) squared. Of 25 rows chance is 0.1: sin(0.6).
    at = Point(date(2026, 4, 1), 0, 10_000)
    assert rounded(band(days([0.0] * 28), at, "share")) == (0, 0, 0.01)
    assert math.isclose(band(days([0.0] * 28), at, "share").high, math.sin(0.12) ** 2)  # type: ignore[union-attr]
    few = band(days([0.0] * 28), replace(at, rows=25), "share")
    assert math.isclose(few.high, math.sin(0.6) ** 2)  # type: ignore[union-attr]


def test_of_hours_only_many_are_an_anomaly() -> None:
    found = band(days([6.0] * 28), Point(date(2026, 4, 1), 0, 0), "hours")
    assert found is not None
    assert found.low == 0
    assert found.high == 12  # 6, and six spreads of at least an hour


def test_two_steps_of_whole_numbers_are_no_anomaly() -> None:
    assert rounded(band(days([1.0] * 28), Point(date(2026, 4, 1), 0, 0), "level", step=1)) == (-1, 1, 3)


def test_the_range_of_a_column_sets_the_least_width_of_its_quantiles() -> None:
    # 4 % of a range of 50 is 2; six of them 12.
    assert rounded(band(days([1.0] * 28), Point(date(2026, 4, 1), 0, 0), "level", range_=50)) == (-11, 1, 13)


def test_the_ends_of_a_distribution_have_a_wider_band() -> None:
    # The least spread of 100 is 3, six of them 18, and 1.3 times as much 23.4.
    assert rounded(band(days([100.0] * 28), Point(date(2026, 4, 1), 0, 0), "level", wider=1.3)) == (76.6, 100, 123.4)


def test_units_of_any_size_are_not_told_to_be_large() -> None:
    seen = [Seen(MONDAY, str(n), {("", "rows"): rows}, {}) for n, rows in enumerate([100.0] * 20 + [5_000.0])]
    verdicts = [judge(seen, 20, Rules(weekdays=False, sizes=sizes)) for sizes in (True, False)]
    assert [[one.is_anomaly for one in some] for some in verdicts] == [[True], []]


def test_a_month_end_moves_as_earlier_ones_did() -> None:
    at = Point(date(2026, 6, 30), 0, 0)
    found = band(days([100] * 28, date(2026, 6, 2)), at, "count", alike=[10, 10, 10])
    # On the scale of roots 10 + 10 = 20, spread 0.7.
    assert rounded(found) == (276.89, 400, 605.64)
    assert rounded(band(days([100] * 28, date(2026, 6, 2)), at, "count", alike=[10, 10])) == (57.76, 100, 189)


def test_distributions_are_apart_from_a_psi_of_a_quarter_and_what_chance_does() -> None:
    # Two bins: (1 + 3 sqrt(2)) / 10,000 = 0.000524.
    assert math.isclose(distance([], 10_000, 2).high, 0.250524, abs_tol=1e-6)
    assert math.isclose(distance([], 100, 2).high, 0.302426, abs_tol=1e-6)
    # Usual distances 0.1, 0.2, 0.3: 0.2 + six times 0.14826.
    assert math.isclose(distance([0.1, 0.2, 0.3], 1e9, 2).high, 1.08956, abs_tol=1e-5)


def test_the_shift_of_categories_is_told_from_the_median_of_the_days() -> None:
    usual = [{"a": 0.5, "b": 0.5}] * 14
    assert reference([*usual, {"c": 1.0}]) == {"a": 0.5, "b": 0.5, "c": 0.0}
    assert shift(usual[:13], {"a": 1.0}) is None
    assert shift(usual, {"a": 0.5, "b": 0.5}) == 0
    # (0.9 - 0.5) ln(0.9 / 0.5) + (0.1 - 0.5) ln(0.1 / 0.5)
    assert math.isclose(shift(usual, {"a": 0.9, "b": 0.1}), 0.878890, abs_tol=1e-6)  # type: ignore[arg-type]


CHRISTMAS = date(2026, 12, 25)


def year_and(last: float, *, holiday: float) -> list[Seen]:
    """Return days from November 2025 to Christmas 2026: 100 rows each, other on Christmas 2025, and last."""
    first = date(2025, 11, 1)
    values = [100.0] * ((CHRISTMAS - first).days + 1)
    values[(date(2025, 12, 25) - first).days], values[-1] = holiday, last
    return history(values, first)


@pytest.mark.parametrize(
    ("last_year", "neighbour", "is_found"),
    [(100, None, True), (0, None, False), (0, 0.0, False), (0, 100.0, True)],
    ids=["usual a year ago", "empty a year ago", "neighbour empty, too", "neighbour as usual"],
)
def test_a_holiday_is_learned_from_the_year_before_if_all_of_the_source_kept_it(
    last_year: float, neighbour: float | None, is_found: bool
) -> None:
    seen = year_and(0, holiday=last_year)
    neighbours = () if neighbour is None else (tuple(Point(s.day, s.rows, 0) for s in year_and(0, holiday=neighbour)),)
    verdicts = judge(seen, len(seen) - 1, Rules(neighbours=neighbours))
    assert [one.is_anomaly for one in verdicts] == [is_found]


def test_a_learned_holiday_does_not_excuse_the_opposite() -> None:
    seen = year_and(1_000, holiday=0)
    assert judge(seen, len(seen) - 1, Rules())[0].is_anomaly


def test_a_day_is_looked_for_at_its_date_and_its_weekday_a_year_ago() -> None:
    assert anchors(date(2027, 11, 25)) == [date(2026, 11, 19), date(2026, 11, 25), date(2026, 11, 26)]
    assert anchors(date(2024, 2, 29))[-1] == date(2023, 3, 2)


def test_of_listed_holidays_and_the_days_around_them_nothing_is_expected() -> None:
    said = read({"holidays": ["03-31", "2026-05-20"]})
    assert [said.is_holiday(date(2027, 3, day)) for day in (29, 30, 31)] == [False, True, True]
    assert said.is_holiday(date(2026, 5, 21))
    assert not said.is_holiday(date(2027, 5, 20))
    seen = history([100] * 30 + [0])
    assert judge(seen, 30, Rules(said)) == []
    assert judge(seen, 30, Rules())[0].is_anomaly


def test_little_is_no_anomaly_on_a_day_that_is_not_over_and_much_is() -> None:
    few, many = history([100] * 30 + [0]), history([100] * 30 + [1_000])
    today = few[30].day
    assert [judge(seen, 30, Rules(today=today))[0].is_anomaly for seen in (few, many)] == [False, True]


def test_fewer_different_values_of_fewer_rows_are_told_once() -> None:
    def seen(rows: float, distinct: float, place: int) -> Seen:
        return Seen(MONDAY + timedelta(days=place), "", {("", "rows"): rows, ("id", "distinct"): distinct}, {})

    usual = [seen(1_000, 1_000, n) for n in range(28)]
    half = judge([*usual, seen(400, 400, 28)], 28, Rules())
    repeated = judge([*usual, seen(1_000, 400, 28)], 28, Rules())
    assert [(one.metric, one.is_anomaly) for one in half] == [("rows", True), ("distinct", False)]
    assert [(one.metric, one.is_anomaly) for one in repeated] == [("rows", False), ("distinct", True)]


def test_nothing_said_is_the_default() -> None:
    assert read({}) == NOTHING_SAID


def test_what_is_muted_is_a_table_or_a_part_of_it_up_to_a_day() -> None:
    said = read({"mute": [{"table": "shop.orders", "column": "amount", "metric": "mean", "until": "2026-03-31"}]})
    assert said.mutes_it("shop.orders", "amount", "mean", date(2026, 3, 31))
    assert not said.mutes_it("shop.orders", "amount", "mean", date(2026, 4, 1))
    assert not said.mutes_it("shop.orders", "amount", "p50", MONDAY)
    assert not said.mutes_it("shop.lines", "amount", "mean", MONDAY)
    assert read({"mute": [{"table": "shop.orders"}]}).mutes_it("shop.orders", "", "rows", date(2030, 1, 1))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "anomalies is \\[\\]"),
        ({"holiday": []}, "anomalies has no 'holiday'"),
        ({"sensitivity": 0}, "sensitivity 0 is not a number over 0"),
        ({"sensitivity": True}, "sensitivity True is not a number over 0"),
        ({"holidays": "12-25"}, "holidays and mute are lists"),
        ({"holidays": ["25.12."]}, "holiday '25.12.' is not a date"),
        ({"mute": [{"table": "orders"}]}, "names no table"),
        ({"mute": [{"table": "shop.orders", "untill": 1}]}, "has no 'untill'"),
        ({"mute": [{"table": "shop.orders", "metric": "average"}]}, "no metric 'average'"),
        ({"mute": [{"table": "shop.orders", "until": "soon"}]}, "until 'soon' is not a date"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_to_write(given: Any, words: str) -> None:
    with pytest.raises(GranaryError, match=words):
        read(given)


def test_anomalies_are_told_in_plain_words() -> None:
    found = Band(4_900.4, 5_480, 6_100.2)
    assert told("rows", "", 1_210, found) == "1,210 rows, expected 4,900 to 6,100"
    assert told("rows", "", 0, found) == "no rows came, expected 4,900 to 6,100"
    assert told("nulls", "city", 0.381, Band(0, 0, 0.012)) == "38.1% of city is empty, expected 0.0% to 1.2%"
    assert told("p50", "paid_at", 20.5, Band(13, 15, 17), is_time=True) == (
        "half of paid_at is up to 20.50 hours after midnight, expected 13.00 to 17.00"
    )


def test_a_series_is_drawn_with_its_band_and_what_is_out_of_it() -> None:
    usual = Drawn(MONDAY, "", 10, Band(5, 10, 15), is_anomaly=False)
    series = [usual, replace(usual, value=15), replace(usual, value=0, is_anomaly=True), replace(usual, band=None)]
    assert spark(series) == ("▆█▁▆", "  ▼")
    picture = svg(series, ("<b>", "mean"))
    assert picture.count("<circle") == 1
    assert picture.count("<polygon") == 1
    assert "<b>" not in picture
    assert spark([]) == ("", "")
