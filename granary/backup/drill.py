"""The drill: the newest backup is restored beside the warehouse, and what comes of it is compared with its own records.

Nobody has to trust a backup: this says whether it can be restored, how long that takes, and what would be lost.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from granary.backup import compare, erasures, logical, records, restore
from granary.backup.compare import Check
from granary.backup.config import destination, private_keys
from granary.warehouse.connection import connect
from granary.warehouse.errors import GranaryError
from granary.warehouse.filelock import locked

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.backup.config import Config
    from granary.readers.files.destination import Destination
    from granary.warehouse.settings import Settings

ASIDE = "drill"
REPORT = "drill.json"


@dataclass(frozen=True)
class Report:
    """What a drill has found.

    `seconds_back` is what a restore takes until the warehouse is up, `seconds_lost` how much of the past would be
    missing from it: since the last of the log that is stored.
    """

    place: str
    backup: str
    until: str
    started_at: str
    seconds_back: float
    seconds_lost: float
    forgotten_again: int
    checks: tuple[Check, ...]
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the backup can be relied on."""
        return not self.problem and all(check.passed for check in self.checks)

    @property
    def words(self) -> str:
        """What is wrong first, or nothing."""
        failed = [check for check in self.checks if not check.passed]
        return self.problem or (f"{failed[0].what} {failed[0].subject}: {failed[0].detail}" if failed else "")


def drill(settings: Settings, config: Config, *, say: Callable[[str], None] = lambda _: None) -> Report:
    """Restore the newest backup aside, compare, remove it, and keep the report; a failure is a report, too.

    Raises:
        GranaryError: another drill is at work.
    """
    started = datetime.now(timezone.utc)
    place = destination(settings, config)
    (settings.home / "backup").mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(settings.home / "backup" / "drill.lock", "drilling the restore", 0):
        try:
            prove = _dump if settings.external else _files
            report = prove(settings, place, started, say)
        except GranaryError as error:
            report = Report(place.place, "", "", started.isoformat(), 0.0, 0.0, 0, (), str(error))
        _keep(settings, report)
    return report


def _files(settings: Settings, place: Destination, started: datetime, say: Callable[[str], None]) -> Report:
    plan_, aside = restore.choose(place, None, settings.home), restore.aside_of(settings, ASIDE)
    try:
        restore.make_aside(aside, place, plan_, private_keys(settings), verify=True, say=say)
        until = plan_.position.moment
        report = _compared(settings, aside, place, started, plan_.chain[-1].name, until, say)
    finally:
        with suppress(GranaryError):
            restore.clear(aside)
    if plan_.log.missing:
        hole = Check("log", plan_.log.missing, passed=False, detail="this segment is missing")
        return replace(report, checks=(*report.checks, hole))
    return report


def _dump(settings: Settings, place: Destination, started: datetime, say: Callable[[str], None]) -> Report:
    backup, aside = logical.choose(place, None), logical.aside_of(settings, ASIDE)
    try:
        logical.load(aside, place, backup, private_keys(settings), say=say)
        return _compared(settings, aside, place, started, backup.name, backup.finished, say)
    finally:
        with suppress(GranaryError):
            logical.drop(aside)
        shutil.rmtree(aside.home, ignore_errors=True)


def _compared(
    settings: Settings,
    aside: Settings,
    place: Destination,
    started: datetime,
    name: str,
    until: datetime,
    say: Callable[[str], None],
) -> Report:
    back = (datetime.now(timezone.utc) - started).total_seconds()
    say("erasing again who was forgotten later")
    again = erasures.forget_again(settings, aside)
    say("comparing with its own records")
    with connect(aside) as connection:
        checks = (
            *compare.marts(connection),
            *compare.raw(connection),
            *compare.archives(connection, settings),
            *compare.positions(connection, aside, settings),
            *compare.forgotten(connection, aside),
        )
    lost = max((started - until).total_seconds(), 0.0)
    moment = until.astimezone(timezone.utc).strftime("%F %T UTC")
    return Report(place.place, name, moment, started.isoformat(), round(back, 1), round(lost, 1), again, checks)


def _keep(settings: Settings, report: Report) -> None:
    """Keep the report in the home, and in `ops` if the warehouse is up."""
    found = asdict(report) | {"passed": report.passed}
    path = settings.home / "backup" / REPORT
    path.write_text(json.dumps(found, indent=1))
    path.chmod(0o600)
    with suppress(GranaryError):
        detail = {**found, "problem": report.words}
        records.keep(
            settings,
            "drill",
            report.backup,
            report.place,
            report.started_at,
            succeeded=report.passed,
            detail=detail,
        )
