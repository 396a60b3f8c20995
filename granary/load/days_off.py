"""The days off of the project's country: its public holidays, and those that people keep without one.

The country is the one that the var `country` of dbt_project.yml names (ISO 3166, such as `US`; empty for none), else
that of its time zone. Dates are from the package `holidays`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import TZPATH, ZoneInfo

from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT, calendar, project_vars

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

AROUND = timedelta(days=1)
"""A day off changes the days before and after it as well."""
PUBLIC, KEPT = ("public",), ("public", "unofficial")
ZONES = "zone.tab"


@dataclass(frozen=True)
class DaysOff:
    """The days off of a country, "" if none is known."""

    country: str = ""
    zone: str = "UTC"

    def closes(self, day: date) -> bool:
        """Return whether a day is a public holiday, on which a business may do nothing at all."""
        return day in _days(self.country, day.year, PUBLIC)

    def is_near(self, day: date, kinds: tuple[str, ...] = KEPT) -> bool:
        """Return whether a day, or the one before or after it, is a public holiday or one that people keep."""
        near = (day - AROUND, day, day + AROUND)
        return any(one in _days(self.country, one.year, kinds) for one in near)

    def between(self, since: datetime, until: datetime) -> int:
        """Return how many public holidays there are from the day of one moment to the day before that of another."""
        first, last = (moment.astimezone(ZoneInfo(self.zone)).date() for moment in (since, until))
        return sum(self.closes(first + timedelta(days=n)) for n in range((last - first).days))


NONE = DaysOff()


@cache
def days_off() -> DaysOff:
    """Return the days off of the project's country; none in a project that has no calendar.

    Raises:
        GranaryError: the country that the project names is not known.
    """
    named, zone = project_vars().get("country"), NONE.zone
    with suppress(GranaryError):
        zone = calendar().time_zone
    if named is None:
        return DaysOff(country_of(zone), zone)
    if named and not _knows(str(named)):
        where = str(PROJECT / "dbt_project.yml")
        raise GranaryError(f"vars: country {named!r} is not known", where, 'write two letters, such as "US", or ""')
    return DaysOff(str(named), zone)


@cache
def country_of(zone: str) -> str:
    """Return the country of a time zone by the table of the time zone database, "" if it is of none, such as UTC."""
    for line in _zones():
        if not line.startswith("#") and (parts := line.split("\t"))[2:] and parts[2].strip() == zone:
            return parts[0] if _knows(parts[0]) else ""
    return ""


def _zones() -> Iterable[str]:
    for folder in TZPATH:
        if (path := Path(folder) / ZONES).is_file():
            return path.read_text(encoding="utf-8").splitlines()
    with suppress(ImportError, OSError):
        return (resources.files("tzdata") / "zoneinfo" / ZONES).read_text(encoding="utf-8").splitlines()
    return ()


def _knows(country: str) -> bool:
    from holidays import list_supported_countries  # noqa: PLC0415 - 50 ms that only who asks for a date pays

    return country in list_supported_countries()


@cache
def _days(country: str, year: int, kinds: tuple[str, ...]) -> frozenset[date]:
    if not country:
        return frozenset()
    from holidays import country_holidays  # noqa: PLC0415 - see above

    every = country_holidays(country).supported_categories
    return frozenset(country_holidays(country, years=year, categories=[kind for kind in kinds if kind in every]))
