"""The sample retailer as a whole: open it, move its clock, reach its systems, forget it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from demo import clock as calendar
from demo import crm, environment, stock
from demo.copies import ONCE, Scale
from demo.cut import cut
from demo.data import Data, installed
from demo.files import put
from demo.marketing import Marketing
from demo.progress import Listener, silent
from demo.rate import Limit
from demo.server import serving
from granary.warehouse.errors import GranaryError
from granary.warehouse.filelock import locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from granary.warehouse.settings import Settings

URL, KEY = "GRANARY_MARKETING_URL", "GRANARY_MARKETING_KEY"


@dataclass(frozen=True)
class Advance:
    """What moving the clock did: the two dates, the files delivered for the days between, the CRM changes."""

    before: date
    after: date
    files: int
    changes: int


@dataclass(frozen=True)
class _Places:
    """The retailer's files below the home folder."""

    home: Path

    @property
    def demo(self) -> Path:
        return self.home / "demo"

    @property
    def clock(self) -> Path:
        return self.demo / "clock"

    @property
    def size(self) -> Path:
        return self.demo / "size.json"

    @property
    def part(self) -> Path:
        return self.demo / "data"

    @property
    def stock(self) -> Path:
        return self.demo / "stock"

    @property
    def landing(self) -> Path:
        return self.demo / "landing"

    @property
    def environment(self) -> Path:
        return self.home / "sources.env"

    @property
    def lock(self) -> Path:
        return self.home / "demo.lock"

    def data(self) -> Data:
        """Return what is played back: the part that was cut at the opening, else the whole, as often as was asked."""
        folder = self.part if self.part.is_dir() else installed().folder
        return Data(folder, self.opened()[1])

    def opened(self) -> tuple[int | None, Scale]:
        """Return the number of households, None for all, and the scale that the retailer was opened with."""
        size = json.loads(self.size.read_text()) if self.size.exists() else {}
        return size.get("households"), Scale(**size.get("scale", {}))


def is_open(settings: Settings) -> bool:
    """Return whether the retailer has been opened here; asks no server."""
    return _Places(settings.home).clock.exists()


def clock(settings: Settings) -> date:
    """Return the last business date that is closed.

    Raises:
        GranaryError: the retailer is not open.
    """
    day = calendar.read(_Places(settings.home).clock)
    if day is None:
        raise GranaryError("the sample retailer is not open", str(settings.home), "run `make demo`")
    return day


def open_for_business(
    settings: Settings,
    households: int | None = None,
    progress: Listener | None = None,
    scale: Scale = ONCE,
) -> date:
    """Open the retailer on the evening of 2016-12-31, before the year that is played back; return its clock.

    Open already, it stays as it is: only its settings are written again, and a CRM that has vanished is made
    again as of the clock. A kill at any instant leaves it closed, and the next call starts over.

    Args:
        settings: the warehouse beside which it opens; its server must be running.
        households: take only the households with an id up to this, and what belongs to them (see `cut`).
        progress: called after each step.
        scale: how often these households, their stores and their year are there.

    Raises:
        GranaryError: the data is not installed, the server does not answer, the disk is full, or the retailer
            is open with another number of households or at another scale.
    """
    places, report = _Places(settings.home), progress or silent
    with _alone(places):
        if not is_open(settings):
            _clear(places)
            if households is not None:
                cut(installed(), households, places.part)
            put(places.size, json.dumps({"households": households, "scale": asdict(scale)}).encode())
            data = places.data()
            for step in chain(crm.build(settings, data), stock.prepare(data, places.stock)):
                report(step)
            for folder in ("pos/transactions", "pos/promotions", "events/coupon_redemptions"):
                (places.landing / folder).mkdir(parents=True)
            _write_environment(settings, places)
            calendar.write(places.clock, calendar.OPENING)
            return calendar.OPENING
        if places.opened() != (households, scale):
            opened, other = places.opened()
            raise GranaryError(
                f"the sample retailer is open with {opened or 'all'} households, not {households or 'all'}"
                if opened != households
                else f"the sample retailer is open at {other}, not at {scale}",
                str(places.demo),
                "remove that folder, or use another GRANARY_HOME",
            )
        if not crm.exists(settings):
            for step in crm.build(settings, places.data()):
                report(step)
            for step in crm.change(settings, places.stock, clock(settings)):
                report(step)
        _write_environment(settings, places)
        return clock(settings)


def advance(settings: Settings, to: date, progress: Listener | None = None) -> Advance:
    """Let business go on until the evening of `to`: deliver, change the CRM, and last move the clock.

    Files that are there already with the same bytes are not written again. Killed at any instant and run
    again, it leaves what one run leaves.

    Raises:
        GranaryError: the retailer is not open, `to` is before its clock or after its last day, another process
            is moving it, the disk is full, or the CRM's server does not answer.
    """
    places, report = _Places(settings.home), progress or silent
    with _alone(places):
        before = clock(settings)
        if to < before:
            raise GranaryError(f"the sample retailer's clock is at {before} and cannot go back to {to}")
        last = places.opened()[1].last_day
        if to > last:
            raise GranaryError(f"the sample retailer's year ends on {last}", f"asked for {to}")
        files = changes = 0
        for step in stock.deliver(places.stock, places.landing, before, to):
            files += 1
            report(step)
        for step in crm.change(settings, places.stock, to):
            changes += step.rows
            report(step)
        calendar.write(places.clock, to)
        return Advance(before, to, files, changes)


@contextmanager
def systems(settings: Settings, limit: Limit | None = None) -> Iterator[str]:
    """Serve the marketing API for as long as this is open, and give its address.

    Meanwhile the environment of this process and its children names it (GRANARY_MARKETING_URL). The landing
    folders and the CRM need no process of their own. The clock may move while it is open.

    Raises:
        GranaryError: the retailer is not open, or it has no API key.
    """
    places = _Places(settings.home)
    clock(settings)
    key = environment.lookup(places.environment, KEY)
    if not key:
        raise GranaryError(f"{KEY} is not set", str(places.environment), "run `make demo`")
    marketing = Marketing(places.data(), partial(calendar.read, places.clock), key, limit or Limit())
    with serving(marketing) as url:
        before = os.environ.get(URL)
        os.environ[URL] = url
        try:
            yield url
        finally:
            if before is None:
                os.environ.pop(URL, None)
            else:
                os.environ[URL] = before


def forget(settings: Settings) -> None:
    """Remove the retailer: its files, its CRM and its settings. What was loaded into the warehouse stays.

    Raises:
        GranaryError: the CRM's server does not answer; nothing has been removed then.
    """
    places = _Places(settings.home)
    with _alone(places):
        crm.drop(settings)
        _clear(places)
        environment.replace(places.environment, dict.fromkeys(_settings(settings, places)))


def _settings(settings: Settings, places: _Places) -> dict[str, str]:
    return {
        "GRANARY_POS_LANDING": str(places.landing / "pos"),
        "GRANARY_EVENTS_LANDING": str(places.landing / "events"),
        "GRANARY_CRM_URL": settings.uri(crm.database(settings)),
        # Its history has ended: without this, Dagster would miss a partition for every day since.
        "GRANARY_LAST_DATE": places.opened()[1].last_day.isoformat(),
        KEY: environment.read(places.environment).get(KEY) or secrets.token_urlsafe(32),
    }


def _write_environment(settings: Settings, places: _Places) -> None:
    environment.replace(places.environment, _settings(settings, places))


def _clear(places: _Places) -> None:
    """Remove the retailer's folder, the clock first: a kill cannot leave it open without its files."""
    places.clock.unlink(missing_ok=True)
    shutil.rmtree(places.demo, ignore_errors=True)


@contextmanager
def _alone(places: _Places) -> Iterator[None]:
    """Let one process at a time change the retailer; the system frees the lock of one that is killed."""
    places.home.mkdir(parents=True, exist_ok=True)
    with locked(places.lock, "moving the sample retailer's clock", seconds=0):
        yield
