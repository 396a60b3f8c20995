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
from granary.backup.log import LogShipper
from granary.readers.files.destination import Folder
from granary.warehouse import server
from granary.warehouse.connection import connect, execute, query
from tests.python.support.command import own_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.backup.catalog import Backup
    from granary.warehouse.settings import Settings

SMALL = {"fsync": "off", "shared_buffers": "64MB", "max_worker_processes": "8"}


PLANTED = """
create table public.told (number integer);

create schema marts;
create table marts.takings (day date, amount numeric, note json);
insert into marts.takings values ('2026-03-01', 10, '{}'), ('2026-03-02', 20, null), ('2026-04-01', 30, null);
insert into ops.publishes (schema_name, invocation_id, started_at, marts, rows_inserted, rows_deleted, loads_seen)
values ('marts', 'first', now(), array['takings'], 3, 0, '{}');
insert into ops.published_months (publish_id, mart, business_month, rows_inserted, rows_deleted, row_count, measures)
values (1, 'takings', '2026-03-01', 2, 0, 2, '{}'), (1, 'takings', '2026-04-01', 1, 0, 1, '{}');
insert into ops.published_marts (publish_id, mart, row_count, digest, plan)
select 1, 'takings', found.row_count, found.digest, plan
from jsonb_build_object(
    'published', 'marts.takings', 'columns', '["day", "amount", "note"]'::jsonb,
    'types', '{"day": "date", "amount": "numeric", "note": "json"}'::jsonb
) as plan
cross join ops.digest_of(plan ->> 'published', ops.texts(plan -> 'columns'), plan -> 'types') as found;

create schema raw_till;
create table raw_till.receipts as select cast(7 as bigint) as _load_id, amount from marts.takings;
insert into ops.load_audit (
    load_id, run_id, source, table_name, unit, fingerprint, status, rows_read, rows_loaded, rows_quarantined,
    rows_deleted, bytes, seconds, started_at
) values (7, 'x', 'till', 'receipts', 'a', 'f', 'loaded', 3, 3, 0, 0, 1, 1, now());
insert into ops.raw_tables values ('till', 'receipts', 3, null);
insert into ops.watermarks values ('till', 'receipts', 'a', 7);
"""
"""A mart of three rows that was published, and the raw table from which it came."""


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
                execute(connection, PLANTED)
                connection.commit()
            tell(settings, 1)
            first = base.take(settings, config, place)
            tell(settings, 2)
            second = base.take(settings, config, place)
            with connect(settings, autocommit=True) as connection:
                for _ in range(4):  # some segments of log between the backup and the moment
                    execute(connection, "insert into public.told values (0)")
                    execute(connection, "delete from public.told where number = 0")
                    execute(connection, "select pg_switch_wal()")
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
