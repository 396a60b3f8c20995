"""A landing zone whose warehouse is lost: its data folder is destroyed under load, and restored from the backups.

The log is stored meanwhile, as `granary serve` does. Now and then somebody is forgotten after the last backup; now and
then an earlier moment is restored than the last one.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from granary.backup import base, erasures, restore
from granary.backup.config import Config
from granary.backup.log import LogShipper
from granary.dbt import manifest
from granary.privacy import forget, locations
from granary.privacy.identity import identity_of
from granary.readers.files import FileReader
from granary.readers.files.destination import Folder
from granary.sources import subjects
from granary.sources.spec import Column, Source, Table
from granary.sources.subjects import Subject
from granary.tiering import restore as tiering
from granary.tiering import without as without_them
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError
from tests.python.engine.chaos.kinds.files import COLUMNS, FilesWorld
from tests.python.engine.chaos.loader_process import Child
from tests.python.engine.chaos.world import REFUSED, Rows, load_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.settings import Settings
    from tests.python.engine.chaos.disruptions import Bench
    from tests.python.engine.chaos.loader_process import Loader

DESTROYED = "data destroyed"
ROUND_SECONDS = 0.1
FORGETS, RETURNS, BACKS_UP = 0.4, 0.25, 0.3
"""How often somebody is forgotten, an earlier moment is restored, and a backup is made before."""
VISITOR = Subject("visitor", "number")


def source(folder: str, name: str = "chaos_restore") -> Source:
    """Return the source of a landing zone whose rows are about visitors."""
    visitor = Column("id", COLUMNS[0].type, "Number.", nullable=False, personal="identifier", subject=VISITOR.name)

    def table(called: str, location: str) -> Table:
        columns = (visitor, *COLUMNS[1:])
        return Table(called, "Rows.", location, columns, "replace_unit", timedelta(days=1), max_refused=0.5)

    tables = (table("sales", "sales/*.parquet"), table("visits", "visits/*.jsonl"))
    return Source(name, "A landing zone.", "tests", "files", (), lambda _: FileReader(folder), tables)


@contextmanager
def visitors() -> Iterator[None]:
    """Have visitors be the only data subjects."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subjects, "declared", lambda: {VISITOR.name: VISITOR})
        yield


@dataclass(frozen=True)
class RestoreLoader:
    """Loads the landing zone of a warehouse with backups."""

    folder: str

    def load(self, settings: Settings) -> None:
        """Load both tables."""
        with visitors():
            load_all(settings, source(self.folder))


@dataclass
class Life:
    """What is known of one landing zone: who is forgotten, and which loads were stored by when."""

    forgotten: set[int] = field(default_factory=set)
    stored: list[tuple[datetime, frozenset[int]]] = field(default_factory=list)


LIVES: dict[str, Life] = {}
SECONDS: list[tuple[float, float]] = []
"""Of each restore: what was lost of the past, and how long it took."""


class RestoreWorld(FilesWorld):
    """Files as ever; what is lost with the data folder is loaded again, and whoever was forgotten stays so."""

    points = ()
    disruptions = (DESTROYED,)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        with visitors():
            self.source = source(str(self.folder))
        self.tables = self.source.tables
        self.loader: Loader = RestoreLoader(str(self.folder))
        earlier = LIVES.get(str(self.folder), Life())
        self.life = LIVES[str(self.folder)] = Life(earlier.forgotten)  # the warehouse is the same one: they stay so

    def truth(self) -> dict[str, Rows]:
        return without(super().truth(), self.life.forgotten)


def without(found: dict[str, Rows], gone: set[int]) -> dict[str, Rows]:
    """Return what there is without some visitors."""
    return {
        name: Counter({row: count for row, count in rows.items() if int(row[-1 if name == REFUSED else 0]) not in gone})
        for name, rows in found.items()
    }


def data_destroyed(bench: Bench, loader: Loader) -> bool:
    """Destroy the data folder at a random moment of a load, and restore it from the backups."""
    assert isinstance(loader, RestoreLoader)
    settings, life = bench.settings, LIVES[loader.folder]
    place = Folder(Path(loader.folder) / ".backups")
    config = Config(to=place.place)
    bench.hang_up()
    if not life.stored or bench.random.random() < BACKS_UP:
        base.take(settings, config, place)
        life.stored.append((datetime.now(timezone.utc), _loads(settings)))
    if bench.random.random() < FORGETS:
        _forget(bench, loader.folder, life, place)
    begun, enough = threading.Event(), threading.Event()
    shipping = threading.Thread(target=_ship, args=(settings, place, life, begun, enough), daemon=True)
    shipping.start()
    begun.wait()
    child = Child(loader, settings, sabotage=bench.sabotage)
    child.go()
    child.over(bench.moment())
    destroyed = datetime.now(timezone.utc)
    destroy(settings)
    enough.set()
    shipping.join()
    if child.end().killed:
        bench.complaints.append("the loader died when the warehouse was destroyed")
    at = bench.random.choice(life.stored)[0] if bench.random.random() < RETURNS else None
    began = time.perf_counter()
    with visitors(), no_models(source(loader.folder)):
        restore.restore(settings, config, at=at)
    SECONDS.append(((destroyed - life.stored[-1][0]).total_seconds(), time.perf_counter() - began))
    life.stored = [one for one in life.stored if at is None or one[0] <= at]
    missing = life.stored[-1][1] - _loads(settings)
    if missing:
        bench.complaints.append(f"loads were stored and are not there: {sorted(missing)}")
    bench.complaints += _back(settings, loader.folder, life)
    return True


def _back(settings: Settings, folder: str, life: Life) -> list[str]:
    """Return where somebody is who is forgotten."""
    found = []
    with connect(settings) as connection:
        for table in source_tables(folder):
            name = f'raw_chaos_restore."{table}"'
            if query(connection, "select to_regclass($1)::text", name) != [(None,)]:
                rows = query(connection, f"select id from {name} where id = any($1)", [*life.forgotten])
                found += [f"{table}: a forgotten one is back" for _ in rows]
    return found


def source_tables(folder: str) -> list[str]:
    """Return the raw tables that are looked through."""
    with visitors():
        return [table.name for table in source(folder).tables]


def _ship(settings: Settings, place: Folder, life: Life, begun: threading.Event, enough: threading.Event) -> None:
    """Store the log round by round, and remember which loads had ended before each; errors are of the destruction."""
    shipper = LogShipper(settings, place)
    while not enough.is_set():
        with suppress(GranaryError, psycopg.Error):
            before = _loads(settings)
            done = shipper.round()
            life.stored.append((done.position.moment, before))
            begun.set()
        enough.wait(ROUND_SECONDS)


def _loads(settings: Settings) -> frozenset[int]:
    with connect(settings) as connection:
        sql = "select load_id from ops.load_audit where source = 'chaos_restore'"
        return frozenset(int(row[0]) for row in query(connection, sql))


def _forget(bench: Bench, folder: str, life: Life, place: Folder) -> None:
    """Forget a random visitor, if there is one; that is known beside the backups at once."""
    with connect(bench.settings) as connection:
        if query(connection, "select to_regclass('raw_chaos_restore.sales')::text") == [(None,)]:
            return
        rows = query(connection, "select distinct id from raw_chaos_restore.sales order by 1")
    if rows:
        number = int(bench.random.choice(rows)[0])
        with visitors(), no_models(source(folder)):
            forget.forget(bench.settings, identity_of(VISITOR, number))
        erasures.store(bench.settings, place)
        life.forgotten.add(number)


@contextmanager
def no_models(found: Source) -> Iterator[None]:
    """Have a landing zone be all that there is: no models stand on it."""
    with pytest.MonkeyPatch.context() as patch:
        for room in (locations, tiering, without_them):
            patch.setattr(room, "SOURCES", {found.name: found})
        patch.setattr(manifest, "prepare", lambda settings: settings.home)
        patch.setattr(manifest, "load", lambda _: {"nodes": {}, "sources": {}})
        yield


def destroy(settings: Settings) -> None:
    """Kill the server and remove its data, and what the home knows of who is forgotten but for the key."""
    data = settings.home / "data"
    postmaster = int((data / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    for pid in (postmaster, *map(int, children)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while any(_lives(int(pid)) for pid in children):
        time.sleep(0.01)
    shutil.rmtree(data)
    (settings.home / "erasures" / "list.jsonl").unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
