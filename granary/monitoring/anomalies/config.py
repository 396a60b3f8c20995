"""What a project may say of anomalies, all in one place: the var `anomalies` of dbt_project.yml. Nothing has to be.

Its keys are `sensitivity` (a number), `holidays` ("12-25", or "2026-04-05") and `mute`, a list of
`{table: shop.orders, column: discount, metric: mean, until: "2026-03-31"}`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from granary.load.days_off import NONE, DaysOff, days_off
from granary.monitoring.anomalies.metrics import METRICS
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT, project_vars

if TYPE_CHECKING:
    from collections.abc import Mapping

AROUND = timedelta(days=1)
"""What a holiday changes are the days before and after it as well."""
KEYS = ("sensitivity", "holidays", "mute")
LEAP_YEAR = "2000"


@dataclass(frozen=True)
class Mute:
    """Anomalies that nobody wants to be told of: of a table, or of one column or metric of it, of days up to a date."""

    table: str
    column: str | None = None
    metric: str | None = None
    until: date | None = None

    def covers(self, table: str, column: str, metric: str, day: date) -> bool:
        """Return whether an anomaly is among these; `table` is "source.table", `column` empty for the table's own."""
        return (
            table == self.table
            and self.column in (None, column)
            and self.metric in (None, metric)
            and (self.until is None or day <= self.until)
        )


@dataclass(frozen=True)
class Config:
    """What the project says: how easily a value is an anomaly, on which days nothing is expected, what is muted.

    `days_off` are those of its country, on which less or more is expected, and at other hours.
    """

    sensitivity: float = 1.0
    holidays: frozenset[str] = frozenset()
    mutes: tuple[Mute, ...] = ()
    days_off: DaysOff = NONE

    def is_holiday(self, day: date) -> bool:
        """Return whether a day, the one before or the one after it, is a holiday by the list."""
        near = (day - AROUND, day, day + AROUND) if self.holidays else ()
        return any(one.isoformat() in self.holidays or f"{one:%m-%d}" in self.holidays for one in near)

    def mutes_it(self, table: str, column: str, metric: str, day: date) -> bool:
        """Return whether an anomaly is muted."""
        return any(mute.covers(table, column, metric, day) for mute in self.mutes)


NOTHING_SAID = Config()


@cache
def config() -> Config:
    """Return what the project says.

    Raises:
        GranaryError: it is not written as it has to be.
    """
    return replace(read(project_vars().get("anomalies") or {}), days_off=days_off())


def read(given: Any) -> Config:
    """Return what the var says; for what it raises see `config`."""
    if not isinstance(given, dict):
        raise _wrong(f"anomalies is {given!r}", f"write {', '.join(KEYS)} below it")
    _known(given, KEYS, "anomalies")
    sensitivity = given.get("sensitivity", 1.0)
    if isinstance(sensitivity, bool) or not isinstance(sensitivity, int | float) or not sensitivity > 0:
        raise _wrong(f"anomalies: sensitivity {sensitivity!r} is not a number over 0", "write 1, or leave it out")
    holidays, mutes = given.get("holidays") or [], given.get("mute") or []
    if not isinstance(holidays, list) or not isinstance(mutes, list):
        raise _wrong("anomalies: holidays and mute are lists", 'write ["12-25"]')
    return Config(float(sensitivity), frozenset(_holiday(day) for day in holidays), tuple(_mute(one) for one in mutes))


def _holiday(given: object) -> str:
    text = str(given)
    _day(text if len(text) > len("12-25") else f"{LEAP_YEAR}-{text}", f"anomalies: holiday {given!r}")
    return text


def _mute(given: Any) -> Mute:
    if not isinstance(given, dict) or not isinstance(given.get("table"), str) or "." not in given["table"]:
        raise _wrong(f"anomalies: mute {given!r} names no table", "write {table: source.table, until: YYYY-MM-DD}")
    _known(given, ("table", "column", "metric", "until"), "anomalies: mute")
    if given.get("metric") not in (None, *METRICS):
        raise _wrong(f"anomalies: mute: there is no metric {given['metric']!r}", f"name one of {', '.join(METRICS)}")
    until = given.get("until")
    return Mute(
        given["table"],
        given.get("column"),
        given.get("metric"),
        None if until is None else _day(str(until), f"anomalies: mute until {until!r}"),
    )


def _day(text: str, what: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise _wrong(f"{what} is not a date", "write YYYY-MM-DD, or MM-DD for a holiday of each year") from None


def _known(given: Mapping[str, Any], keys: tuple[str, ...], what: str) -> None:
    if unknown := sorted(str(key) for key in given if key not in keys):
        raise _wrong(f"{what} has no {unknown[0]!r}", f"it has {', '.join(keys)}")


def _wrong(what: str, todo: str) -> GranaryError:
    return GranaryError(f"vars: {what}", str(PROJECT / "dbt_project.yml"), todo)
