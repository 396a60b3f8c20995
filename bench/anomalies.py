"""Which planted faults are noticed among the sample's deliveries, and what a year without faults is alarmed by.

`python -m bench anomalies` plays the year of the retailer back, delivery by delivery as Arrow, through the same
statistics and verdicts that a load is followed by; each day is judged by those before it. Then each fault of `FAULTS`
is planted on some days. No server is needed: that what a load brings is observed and kept the same way is for
tests/python/engine/anomalies.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from demo import crm
from demo.data import installed
from demo.marketing import prepared_at
from demo.pos import promotions_by_week, transactions_by_day
from granary.cli import output
from granary.load.api import find
from granary.monitoring.anomalies.config import NOTHING_SAID, config
from granary.monitoring.anomalies.judge import ROWS, Seen, judge, shift
from granary.monitoring.anomalies.metrics import METRICS
from granary.monitoring.anomalies.observe import LEAST_ROWS, SAMPLE, columns_of, describe
from granary.monitoring.anomalies.watch import filled, message, rules_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from granary.monitoring.anomalies.config import Config
    from granary.monitoring.anomalies.judge import Rules, Verdict
    from granary.monitoring.anomalies.observe import Of

SEED = 1
ZONE = ZoneInfo("America/New_York")
OPENED, LAST = date(2017, 1, 1), date(2017, 12, 31)
SIX_HOURS = 6.0
"""How long after its end a business day is loaded, give or take half an hour."""
DAYS = tuple(date(2017, 3, 2) + timedelta(days=25 * n) for n in range(12))
WEEKS = (20, 25, 30, 35, 40, 46)
"""Days and weeks on which faults are planted."""
OFF = tuple(
    date(2017, month, day)
    for month, day in ((3, 17), (5, 14), (5, 29), (6, 18), (7, 4), (9, 4), (10, 9), (10, 31), (11, 11), (11, 23))
)
"""Days off on which faults are planted as well."""
SLICES = 5
"""Parts of the sample, by the number of the household, each as if it were the whole."""


@dataclass(frozen=True)
class Delivery:
    """What comes of a table on a day, or as a unit, and how many hours after the end of the day."""

    day: date
    unit: str
    rows: pa.Table
    hours_late: float | None = None


@dataclass
class Played:
    """A table's year: what was seen of each delivery, and the deliveries that faults are planted in."""

    source: str
    table: str
    seen: list[Seen] = field(default_factory=list)
    kept: dict[tuple[date, str], Delivery] = field(default_factory=dict)

    def history(self) -> list[Seen]:
        """Return the days, also those on which nothing came."""
        return filled(self.seen, find(self.source, self.table)[1])

    def rules(self, said: Config) -> Rules:
        """Return how the table is looked at, as after a load."""
        return rules_by(find(self.source, self.table)[1], said)


def observed(kinds: dict[str, Of], delivery: Delivery, before: Sequence[Seen]) -> Seen:
    """Return what is seen of a delivery: what granary/monitoring/anomalies/observe.py asks the server for."""
    values: dict[tuple[str, str], float] = {ROWS: float(delivery.rows.num_rows)}
    shares: dict[str, dict[str, float]] = {}
    if delivery.hours_late is not None:
        values["", "lateness"] = delivery.hours_late
    if delivery.rows.num_rows >= LEAST_ROWS:
        begins = datetime.combine(delivery.day, time(), ZONE).timestamp()
        rows = delivery.rows
        if rows.num_rows > SAMPLE:
            some = np.random.default_rng(rows.num_rows).random(rows.num_rows) < SAMPLE / rows.num_rows
            rows = rows.filter(pa.array(some))
        for name in set(kinds) & set(rows.column_names):
            found, common = describe(_as_read(rows[name], kinds[name]), kinds[name], begins)
            values |= {(name, metric): value for metric, value in found.items()}
            if common:
                shares[name] = common
                past = [one.shares[name] for one in before if name in one.shares]
                if (by := shift(past, common)) is not None:
                    values[name, "categories"] = by
    return Seen(delivery.day, delivery.unit, values, shares)


def _as_read(column: pa.ChunkedArray, kind: Of) -> pa.ChunkedArray:
    if kind == "number":
        return column.cast(pa.float64())
    if kind == "time":
        return pc.divide(column.cast(pa.timestamp("us")).cast(pa.int64()).cast(pa.float64()), 1e6)
    return column.cast(pa.string()) if kind == "category" else column


def play(source: str, table: str, deliveries: Iterator[Delivery], keep: Callable[[Delivery], bool]) -> Played:
    """Return a table's year."""
    played, kinds = Played(source, table), columns_of(find(source, table)[1])
    for delivery in deliveries:
        played.seen.append(observed(kinds, delivery, played.seen))
        if keep(delivery):
            played.kept[delivery.day, delivery.unit] = delivery
    return played


def year() -> list[Played]:
    """Return the year of every table."""
    data, chance = installed(), np.random.default_rng(SEED)
    late = (SIX_HOURS + chance.random() / 2 for _ in iter(int, 1))
    redemptions = data.read("coupon_redemptions")
    by_day = Counter(day.date() for day in redemptions["redemption_date"].to_pylist())
    days = [OPENED + timedelta(days=n) for n in range((LAST - OPENED).days + 1)]
    played = [
        play(
            "pos",
            "transactions",
            (Delivery(day, "", rows, next(late)) for day, rows in transactions_by_day(data)),
            lambda one: one.day in (*DAYS, *OFF),
        ),
        play(
            "pos",
            "promotions",
            (
                Delivery(OPENED + timedelta(days=7 * week), f"promotions/week-{week:02}.parquet", rows)
                for week, rows in promotions_by_week(data)
            ),
            lambda one: one.unit in {f"promotions/week-{week:02}.parquet" for week in WEEKS},
        ),
        play("events", "coupon_redemptions", (_counted(day, by_day[day], next(late)) for day in sorted(by_day)), _none),
    ]
    for name, entity in crm.ENTITIES.items():
        _, changes = entity.versions(data)
        at = [moment.astimezone(ZONE).date() for moment in changes["updated_at"].to_pylist()]
        rows = {day: changes.filter(pa.array([one == day for one in at], pa.bool_())) for day in set(at)}
        every = changes.slice(0, 0) if name != "stores" else entity.rows(data)
        played.append(play("crm", name, (Delivery(day, "", rows.get(day, every)) for day in days), _none))
    campaigns = data.read("campaign_descriptions").to_pylist()
    began = {one["campaign_id"]: prepared_at(one["start_date"].date()).date() for one in campaigns}
    per_day = Counter(began.values())
    played.append(play("marketing", "campaigns", (_counted(day, per_day[day]) for day in days), _none))
    for table, file in (("recipients", "campaigns"), ("coupons", "coupons")):
        rows = data.read(file)
        units = (
            Delivery(day, str(campaign), rows.filter(pc.equal(rows["campaign_id"], campaign)))
            for campaign, day in sorted(began.items(), key=lambda one: (one[1], one[0]))
        )
        played.append(play("marketing", table, units, _none))
    return played


def slices() -> Iterator[list[Played]]:
    """Yield the year of the tills of each slice."""
    data = installed()
    for part in range(SLICES):
        chance = np.random.default_rng(SEED + part)
        deliveries = (
            Delivery(day, "", rows.filter(pc.equal(_rest(rows["household_id"]), part)), SIX_HOURS + chance.random() / 2)
            for day, rows in transactions_by_day(data)
        )
        yield [play("pos", "transactions", deliveries, lambda one: one.day in DAYS)]


def _rest(numbers: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.subtract(numbers, pc.multiply(pc.divide(numbers, SLICES), SLICES))


def _none(_: Delivery) -> bool:
    return False


def _counted(day: date, rows: int, late: float | None = None) -> Delivery:
    """Return a delivery of which only the number of rows is looked at."""
    return Delivery(day, "", pa.table({"rows": pa.array(range(rows), pa.int64())}), late)


@dataclass(frozen=True)
class Fault:
    """What is done to a delivery of a table: what becomes of its rows (None: it does not come), how late it is."""

    of: str
    change: Callable[[pa.Table], pa.Table | None]
    hours_late: float = 0.0


def _put(rows: pa.Table, name: str, column: Any) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(name), name, column)


def _scaled(name: str, factor: float) -> Callable[[pa.Table], pa.Table]:
    return lambda rows: _put(rows, name, pc.multiply(rows[name], factor))


def _shifted(hours: int) -> Callable[[pa.Table], pa.Table]:
    name, by = "transaction_timestamp", pa.scalar(timedelta(hours=hours), pa.duration("us"))
    return lambda rows: _put(rows, name, pc.add(rows[name], by))


def _swapped(one: str, other: str) -> Callable[[pa.Table], pa.Table]:
    return lambda rows: _put(_put(rows, one, rows[other]), other, rows[one])


def _replaced(name: str, value: object, nth: int) -> Callable[[pa.Table], pa.Table]:
    """Return a change that gives every nth row a value."""

    def change(rows: pa.Table) -> pa.Table:
        some = pa.array(np.arange(rows.num_rows) % nth == 0)
        kind = pa.string() if isinstance(value, str) else rows[name].type
        return _put(rows, name, pc.if_else(some, pa.scalar(value, kind), rows[name].cast(kind)))

    return change


def _without(gone: Callable[[Any], Any]) -> Callable[[pa.Table], pa.Table]:
    """Return a change that takes out rows by their places."""
    return lambda rows: rows.filter(pa.array(~gone(np.arange(rows.num_rows))))


def _without_largest(name: str, number: int) -> Callable[[pa.Table], pa.Table]:
    """Return a change that takes out the rows of the most frequent values of a column."""

    def change(rows: pa.Table) -> pa.Table:
        most = [value for value, _ in Counter(rows[name].to_pylist()).most_common(number)]
        return rows.filter(pc.invert(pc.is_in(rows[name], pa.array(most, rows[name].type))))

    return change


T, P = "transactions", "promotions"
FAULTS = {
    "every other row": Fault(T, _without(lambda place: place % 2 == 0)),
    "the rows from the afternoon on": Fault(T, lambda rows: rows.slice(rows.num_rows // 2)),
    "all rows twice": Fault(T, lambda rows: pa.concat_tables([rows, rows])),
    "an empty file": Fault(T, lambda rows: rows.slice(0, 0)),
    "no file": Fault(T, lambda _: None),
    "a file that is a day late": Fault(T, lambda rows: rows, hours_late=24),
    "prices in cents": Fault(T, _scaled("sales_value", 100)),
    "times in local time": Fault(T, _shifted(-5)),
    "times shifted twice": Fault(T, _shifted(5)),
    "two amounts swapped": Fault(T, _swapped("sales_value", "retail_disc")),
    "two ids swapped": Fault(T, _swapped("store_id", "product_id")),
    "a twentieth of a column empty": Fault(T, _replaced("quantity", None, 20)),
    "an amount that is 0": Fault(T, _scaled("retail_disc", 0)),
    "half of the stores missing": Fault(T, _without_largest("store_id", 40)),
    "one week's file again": Fault(P, lambda rows: pa.concat_tables([rows, rows])),
    "half of a weekly file": Fault(P, lambda rows: rows.slice(0, rows.num_rows // 2)),
    "an eighth of a new category": Fault(P, _replaced("display_location", "X", 8)),
    "a category that is gone": Fault(P, _replaced("mailer_location", "0", 1)),
}


def main() -> None:
    """Print the alarms of the clean year, and which planted faults were found."""
    played = year()
    for label, said in (("without a setting", config()), ("without the days off of its country", NOTHING_SAID)):
        found, days, series = alarms(played, said)
        output.table(
            f"The year without faults, {label}: {series} series, {len(found)} values out of their bands,"
            f" {days} tables' days alarmed",
            ("false alarms",),
            [(line,) for line in found],
        )
    by_table = {one.table: one for one in played}
    print_faults(by_table, (*DAYS, *WEEKS), "Planted faults")
    print_faults(by_table, OFF, "Planted faults on days off")
    print_slices()


def alarms(played: Sequence[Played], said: Config) -> tuple[list[str], int, int]:
    """Return the values that are out of their bands, on how many days of tables, and how many series there are."""
    lines, days, series = [], set(), set()
    for one in played:
        history, rules = one.history(), one.rules(said)
        for place, seen in enumerate(history):
            for verdict in judge(history, place, rules):
                series.add((one.source, one.table, verdict.column, verdict.metric))
                if verdict.is_anomaly:
                    days.add((one.source, one.table, seen.day, seen.unit))
                    at = (seen.day, seen.unit)
                    lines.append(message(f"{one.source}.{one.table}", at, verdict, times=rules.times))
    return lines, len(days), len(series)


def print_faults(played: dict[str, Played], at: Sequence[date | int], title: str) -> None:
    """Print what was found of each fault that was planted on some days, or in some weeks."""
    rows: list[tuple[str, int, int, int, str]] = []
    for name, fault in FAULTS.items():
        one = played[fault.of]
        found = [_found(one, fault, each) for each in one.kept.values() if each.day in at or each.unit]
        if not one.rules(config()).weekdays and WEEKS[0] not in at:
            continue
        said = next((verdicts for verdicts in found if verdicts), [])
        more = f" (and {len(said) - 1} more)" if said[1:] else ""
        missed = sum(not one for one in found)
        rows.append((name, len(found), len(found) - missed, missed, f"{said[0]}{more}" if said else ""))
    found_, planted = sum(row[2] for row in rows), sum(row[1] for row in rows)
    output.table(f"{title}: {found_} of {planted} found", ("fault", "planted", "found", "missed", "first"), rows)


def print_slices() -> None:
    """Print the false alarms in the year of each slice, and what was found of the faults of the tills there."""
    rows = []
    for number, played in enumerate(slices(), start=1):
        with_days, _, _ = alarms(played, config())
        without, _, _ = alarms(played, NOTHING_SAID)
        kept = played[0].kept.values()
        found = [
            bool(_found(played[0], fault, each))
            for fault in FAULTS.values()
            if fault.of == played[0].table
            for each in kept
        ]
        rows.append((number, len(without), len(with_days), "; ".join(with_days), sum(found), len(found)))
    output.table(
        f"The tills in {SLICES} slices, each by itself",
        ("slice", "false alarms without days off", "with", "which", "found", "planted"),
        rows,
    )


def _found(played: Played, fault: Fault, delivery: Delivery) -> list[str]:
    """Return what is said of a delivery with a fault."""
    history, rules = played.history(), played.rules(config())
    place = next(n for n, seen in enumerate(history) if (seen.day, seen.unit) == (delivery.day, delivery.unit))
    changed = fault.change(delivery.rows)
    if changed is None:
        history[place] = Seen(delivery.day, delivery.unit, {ROWS: 0.0}, {})
    else:
        late = None if delivery.hours_late is None else delivery.hours_late + fault.hours_late
        kinds = columns_of(find(played.source, played.table)[1])
        history[place] = observed(kinds, replace(delivery, rows=changed, hours_late=late), history[:place])
    verdicts: list[Verdict] = [one for one in judge(history, place, rules) if one.is_anomaly]
    verdicts.sort(key=lambda one: list(METRICS).index(one.metric))
    name = f"{played.source}.{played.table}"
    return [message(name, (delivery.day, delivery.unit), one, times=rules.times) for one in verdicts]


if __name__ == "__main__":
    main()
