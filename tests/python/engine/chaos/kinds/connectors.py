"""A Singer tap and a dlt source: the tap sends rows at its bookmark again, and both are asked from where we are."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.readers.connectors.reader import ConnectorReader
from granary.readers.singer import DLT, DLT_SOURCE, RUNNER, SINGER
from granary.sources.spec import Column, Source, Table
from tests.python.engine.chaos.world import REFUSED, SEAM, Rows, World, load_all

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.warehouse.settings import Settings

TAP = Path(__file__).parents[3] / "support" / "tap_shelf.py"
NEW = (300, 900)
PART = 250
COLUMNS = (
    Column("id", pa.int64(), "Number.", nullable=False),
    Column("name", pa.string(), "Its name."),
    Column("changed", pa.int64(), "Day of its last change.", nullable=False),
)
OPTIONS: dict[str, Any] = {"needs": {}, "metadata": {}, "silence": 3_600.0, "seconds": 36_000.0}
"""Which loader is dead is for the harness to say, by what it works (`loader_process`)."""


def table(name: str, disposition: Any) -> Table:
    """Return a table of things."""
    return Table(name, "Things.", name, COLUMNS, disposition, timedelta(days=1), key=("id",), floor=0.0)


MERGED, WHOLE = table("merged", "merge"), table("whole", "replace")


def taps(folder: str) -> Source:
    """Return the source of a tap, committed in small parts."""
    config = {"shelf": f"{folder}/shelf.json", "cursor": "changed", "every": 100}

    def reader(_: Mapping[str, str]) -> ConnectorReader:
        command = [sys.executable, "-S", str(TAP)]
        return ConnectorReader("tap-shelf", lambda: command, config, rows=PART, more={}, guarantees=SINGER, **OPTIONS)

    return Source("chaos_singer", "A tap.", "tests", "singer", (), reader, (MERGED, WHOLE))


def pipelines(folder: str) -> Source:
    """Return the source of a dlt source, which reads a database past a cursor."""
    function, database = "chaos_things:things", f"{folder}/things.db"

    def reader(_: Mapping[str, str]) -> ConnectorReader:
        command = [sys.executable, "-I", str(RUNNER), folder, function]
        return ConnectorReader(
            "dlt", lambda: command, {"database": database}, rows=sys.maxsize, more=DLT, guarantees=DLT_SOURCE, **OPTIONS
        )

    return Source("chaos_dlt", "A dlt source.", "tests", "dlt", (), reader, (MERGED,))


THINGS = """
import sqlite3

import dlt


@dlt.source
def things(database):
    @dlt.resource(primary_key="id", write_disposition="merge")
    def merged(changed=dlt.sources.incremental("changed", initial_value=-1)):
        with sqlite3.connect(database) as connection:
            sql = "select id, name, changed from things where changed >= ? order by changed"
            for number, name, day in connection.execute(sql, (changed.last_value,)):
                yield {"id": number, "name": name, "changed": day}

    return merged
"""


@dataclass(frozen=True)
class ConnectorLoader:
    """Loads a tap's streams, or a dlt source's."""

    folder: str
    kind: str

    def load(self, settings: Settings) -> None:
        """Load every table."""
        load_all(settings, {"singer": taps, "dlt": pipelines}[self.kind](self.folder))


class SingerWorld(World):
    """A shelf on which things come, change, and in one stream also go."""

    points = (*SEAM, "connector-state")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.day = 0
        self.merged: dict[int, dict[str, Any]] = {}
        self.whole: dict[int, dict[str, Any]] = {}
        self.source, self.loader = taps(str(self.folder)), ConnectorLoader(str(self.folder), "singer")
        self.tables = self.source.tables

    def advance(self) -> None:
        self.day += 1
        for things in (self.merged, self.whole):
            old = self.random.sample(sorted(things), len(things) // 5)
            new = range(max(things, default=-1) + 1, max(things, default=-1) + 1 + self.random.randint(*NEW))
            for number in [*old, *new]:
                things[number] = {"id": number, "name": f"thing {self.random.random()}", "changed": self.day}
        for number in self.random.sample(sorted(self.whole), len(self.whole) // 10):
            del self.whole[number]
        self.deliver()

    def deliver(self) -> None:
        """Put what there is where the connector finds it; its readers see the old or the new."""
        shelf = {"merged": list(self.merged.values()), "whole": list(self.whole.values())}
        fresh = self.folder / "shelf.new"
        fresh.write_text(json.dumps(shelf))
        fresh.replace(self.folder / "shelf.json")

    def truth(self) -> dict[str, Rows]:
        things = {"merged": self.merged, "whole": self.whole}
        found = {one.name: Counter(tuple(row.values()) for row in things[one.name].values()) for one in self.tables}
        return found | {REFUSED: Counter()}


class DltWorld(SingerWorld):
    """A database that a dlt source reads past a cursor. Its runs take seconds, so `make chaos` alone has it."""

    points = SEAM
    is_slow = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        (self.folder / "chaos_things.py").write_text(THINGS)
        self.source, self.loader = pipelines(str(self.folder)), ConnectorLoader(str(self.folder), "dlt")
        self.tables = self.source.tables

    def deliver(self) -> None:
        with closing(sqlite3.connect(self.folder / "things.db")) as connection, connection:
            connection.execute("create table if not exists things (id integer primary key, name text, changed integer)")
            rows = [tuple(row.values()) for row in self.merged.values()]
            connection.executemany("insert or replace into things values (?, ?, ?)", rows)
