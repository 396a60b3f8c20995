"""One small server of its own, with backups at a folder: tests restore from it, and copy it before they damage it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from granary.backup import base
from granary.backup.config import Config
from granary.backup.destination import Folder
from granary.backup.log import LogShipper
from granary.warehouse import server
from granary.warehouse.connection import connect, execute, query
from tests.python.support.command import own_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.backup.catalog import Backup
    from granary.warehouse.settings import Settings

SMALL = {"fsync": "off", "shared_buffers": "64MB", "max_worker_processes": "8"}


@dataclass(frozen=True)
class Kept:
    """A warehouse whose table `public.told` has had rows 1 to 4, and its backups.

    The first backup has row 1, the second one row 2, too; 3 and 4 are in the log, with `after_three` between them.
    """

    settings: Settings
    config: Config
    place: Folder
    backups: tuple[Backup, Backup]
    after_three: datetime

    def other(self, name: str) -> Settings:
        """Return a home beside this one."""
        home = self.settings.home.parent / f"{self.settings.home.name}-{name}"
        return replace(self.settings, home=home, host=str(home / "run"))


def rows(settings: Settings) -> list[int]:
    """Return what the table has."""
    with connect(settings) as connection:
        return [row[0] for row in query(connection, "select number from public.told order by number")]


def tell(settings: Settings, number: int) -> datetime:
    """Put a row into the table; return when that was committed."""
    with connect(settings) as connection:
        execute(connection, "insert into public.told values ($1)", number)
        connection.commit()
        moment: datetime = query(connection, "select clock_timestamp()")[0][0]
        return moment


@pytest.fixture(scope="module")
def quick() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        tuning = server.tuning
        patch.setattr(server, "tuning", lambda folder: tuning(folder) | SMALL)
        yield patch


@pytest.fixture(scope="module")
def kept(quick: pytest.MonkeyPatch) -> Iterator[Kept]:
    with own_server(quick) as settings:
        place = Folder(settings.home.with_name(f"{settings.home.name}-backups"))
        config = Config(to=place.place)
        try:
            with connect(settings) as connection:
                execute(connection, "create table public.told (number integer)")
                connection.commit()
            tell(settings, 1)
            first = base.take(settings, config, place)
            tell(settings, 2)
            second = base.take(settings, config, place)
            after_three = tell(settings, 3)
            tell(settings, 4)
            LogShipper(settings, place).round()
            yield Kept(settings, config, place, (first, second), after_three)
        finally:
            for path in settings.home.parent.glob(f"{settings.home.name}-*"):
                shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def copy(kept: Kept, tmp_path: Path) -> Folder:
    """Return a copy of the backups that a test may damage."""
    shutil.copytree(kept.place.place, tmp_path / "copy")
    return Folder(tmp_path / "copy")
