"""Look at what the last loads of a table brought, and say what is not as usual.

It comes after the load, in a transaction of its own: whatever goes wrong here costs no load, and the next look makes up
for it, since what was not observed yet is told by the ledger.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from granary.monitoring.anomalies import records
from granary.monitoring.anomalies.bands import Point
from granary.monitoring.anomalies.config import config
from granary.monitoring.anomalies.judge import ROWS, Rules, Seen, judge, shift
from granary.monitoring.anomalies.metrics import METRICS, told
from granary.monitoring.anomalies.observe import columns_of, groups, is_by_unit, observe
from granary.monitoring.anomalies.records import PASSED
from granary.warehouse.connection import connect, lock, query
from granary.warehouse.project import calendar

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterable, Mapping, Sequence
    from datetime import date

    from granary.monitoring.anomalies.config import Config
    from granary.monitoring.anomalies.judge import Verdict
    from granary.monitoring.anomalies.observe import Group
    from granary.monitoring.anomalies.records import Anomaly, Place
    from granary.sources.spec import Table
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

COLUMNS_KEPT = 84
"""Days of one look whose columns are looked at, the newest: a history that is loaded at once has no more to tell."""
HISTORY = timedelta(days=14)
"""A day that comes so long after its end is history that is loaded, and not late."""
LOCK_SECONDS = 10
TODAY = "select (now() at time zone $1)::date"


def watch(settings: Settings, source: str, table: Table, *, columns_kept: int = COLUMNS_KEPT) -> list[Anomaly]:
    """Observe what loads have brought since the last look, and return the table's open anomalies.

    Args:
        settings: the warehouse.
        source: the source's name.
        table: the table.
        columns_kept: of how many days of this look, at most, columns are looked at.

    Raises:
        GranaryError: the var `anomalies` is not written as it has to be.
        psycopg.Error: the warehouse failed.
    """
    said, zone = config(), calendar().time_zone
    with connect(settings, role="loader") as connection:
        lock(connection, f"anomalies of {source}.{table.name}", LOCK_SECONDS)
        known = records.known(connection, source, table.name)
        found = {(group.day, group.unit): group for group in groups(connection, source, table, zone)}
        changed = [group for place, group in found.items() if known.get(place) != (group.load_id, group.rows)]
        gone = [place for place in known if place not in found]
        if changed or gone:
            history = records.observations(connection, source, table.name)
            (today,) = query(connection, TODAY, zone)[0]
            different = _observe(settings, connection, source, table, changed, history, columns_kept)
            for place in gone:
                records.forget(connection, source, table.name, place)
                history.pop(place)
            rules = rules_of(connection, source, table, said, today)
            places = [*((group.day, group.unit) for group in different), *gone]
            _judge(connection, source, table, places, history, known, rules)
        records.close_passed(connection, source, table.name)
        records.mute(connection, source, table.name, said)
        connection.commit()
        return records.anomalies(connection, source, table.name)


def _observe(
    settings: Settings,
    connection: Connection,
    source: str,
    table: Table,
    changed: Sequence[Group],
    history: dict[Place, Seen],
    columns_kept: int,
) -> list[Group]:
    """Keep what these days have brought, add it to the history, and return those that are not as they were."""
    looked = {(one.group.day, one.group.unit): one for one in observe(settings, source, table, changed[-columns_kept:])}
    categories = {name for name, kind in columns_of(table).items() if kind == "category"}
    different = []
    for group in changed:
        place = (group.day, group.unit)
        values = {ROWS: group.rows}
        if table.is_daily and timedelta(hours=group.hours_late) < HISTORY:
            values["", "lateness"] = max(0.0, group.hours_late)
        if one := looked.get(place):
            seen = Seen(group.day, group.unit, values | dict(one.values), one.shares)
        elif place in history:  # of columns what was seen of them stays
            seen = replace(history[place], values={**history[place].values, **values})
        else:
            seen = Seen(group.day, group.unit, values, {})
        before = [other.shares for at, other in history.items() if at < place and other.shares]
        for column in categories & set(seen.shares):
            past = [shares[column] for shares in before if column in shares]
            if (moved := shift(past, seen.shares[column])) is not None:
                seen = replace(seen, values={**seen.values, (column, "categories"): moved})
        if place in history and _same(history[place], seen):
            records.same_again(connection, source, table.name, group)
            continue
        records.keep(connection, source, table.name, group, seen)
        history[place] = seen
        different.append(group)
    return different


def _same(before: Seen, now: Seen) -> bool:
    """Return whether a day was observed as it was before; how far categories are from others' is no matter."""
    keys = [{key for key in one.values if key[1] != "categories"} for one in (before, now)]
    return keys[0] == keys[1] and all(
        math.isclose(before.values[key], now.values[key], rel_tol=1e-9) for key in keys[0]
    )


def _judge(
    connection: Connection,
    source: str,
    table: Table,
    changed: Sequence[Place],
    history: Mapping[Place, Seen],
    known: Collection[Place],
    rules: Rules,
) -> None:
    """Judge the newest days, those on which nothing came too, and of earlier ones what was corrected.

    Of many changes at once (a history, a full refresh, an erasure) only those with an anomaly that is open.
    """
    days = filled(history.values(), table)
    places = [(one.day, one.unit) for one in days]
    recent = set(places[-PASSED:])
    open_ = {(one.day, one.unit) for one in records.anomalies(connection, source, table.name)}
    fresh = {*changed, *places[-1:]}
    wanted = recent | {one for one in changed if one in open_ or (one in known and len(changed) <= PASSED)}
    times, order = rules.times, list(METRICS)
    for number, place in enumerate(places):
        if place in wanted:
            verdicts = [one for one in judge(days, number, rules) if one.is_anomaly and _holds(one, place in fresh)]
            verdicts.sort(key=lambda one: order.index(one.metric))
            told_ = [(one, message(f"{source}.{table.name}", place, one, times=times)) for one in verdicts]
            records.settle(connection, source, table.name, place, told_)
    for place in wanted - set(places):
        records.settle(connection, source, table.name, place, [])


def _holds(verdict: Verdict, fresh: bool) -> bool:
    """Return whether an anomaly holds; that a day came late cannot be corrected, and is over with the next one."""
    return fresh or verdict.metric != "lateness"


def message(name: str, place: Place, verdict: Verdict, *, times: Container[str] = ()) -> str:
    """Return an anomaly in plain words: "shop.orders of Tuesday 2026-05-05: 1,210 rows, expected 4,900 to 6,100"."""
    day, unit = place
    is_time = verdict.column in times
    words = told(verdict.metric, verdict.column, verdict.value, verdict.band, is_time=is_time, note=verdict.note)
    return f"{name} of {unit or f'{day:%A %Y-%m-%d}'}: {words}"


def filled(seen: Iterable[Seen], table: Table) -> list[Seen]:
    """Return the days in order, and where a table is delivered by the day, those between on which nothing came."""
    days = sorted(seen, key=lambda one: one.day)
    if not table.is_daily or not days:
        return days
    by_day = {one.day: one for one in days}
    first, last = min(by_day), max(by_day)
    every = (first + timedelta(days=n) for n in range((last - first).days + 1))
    return [by_day.get(day) or Seen(day, "", {ROWS: 0.0}, {}) for day in every]


def rules_of(connection: Connection, source: str, table: Table, said: Config, today: date | None) -> Rules:
    """Return how a table is looked at."""
    if is_by_unit(table):
        return rules_by(table, said)
    others = records.rows_by_day(connection, source, table.name).values()
    neighbours = tuple(tuple(Point(day, rows, rows) for day, rows in other) for other in others)
    return replace(rules_by(table, said), today=today, neighbours=neighbours)


def rules_by(table: Table, said: Config) -> Rules:
    """Return how a table is looked at, by its contract.

    The collections of an API that has one for each of something (`/orders/{order_id}/lines`) are of any size.
    """
    kinds = columns_of(table)
    return Rules(
        said,
        weekdays=not is_by_unit(table),
        sizes=not (is_by_unit(table) and "{" in table.location),
        times=frozenset(name for name, kind in kinds.items() if kind == "time"),
        whole=frozenset(one.name for one in table.columns if pa.types.is_integer(one.type)),
    )
