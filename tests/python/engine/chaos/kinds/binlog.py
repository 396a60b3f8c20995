"""Capture by the binary log: a MariaDB under a concurrent write load, its change tables and its copy."""

from __future__ import annotations

import atexit
import os
import random
import threading
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from granary.cdc.capture import opened
from granary.sources.capture import changes_table
from tests.python.engine.chaos.kinds.capture import as_captured
from tests.python.engine.chaos.world import SEAM, Rows, World
from tests.python.support import mariadb
from tests.python.support.binlog_shop import SETTING, SOURCE, BinlogShop

if TYPE_CHECKING:
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

WRITERS, TRANSACTIONS = 2, 25
"""What goes on at the source while captures are disrupted: transactions of each writer in a round."""

_number = count(1)


@cache
def _server() -> mariadb.MariaDB:
    """Return a source server of this process."""
    program = mariadb.binary()
    if program is None:
        pytest.skip(f"there is no MariaDB server here: install the Debian package {mariadb.PACKAGE}")
    server = mariadb.start(program, *mariadb.BINLOG)
    atexit.register(server.stop)
    return server


@dataclass(frozen=True)
class BinlogLoader:
    """Captures what the source has committed."""

    uri: str

    def load(self, settings: Settings) -> None:
        """Capture once: the copy if there is none, then every change."""
        os.environ[SETTING] = self.uri
        with opened(settings, SOURCE) as capturing:
            capturing.once()


class BinlogWorld(World):
    """A stall whose writers are at work while its capture is killed, and at rest when the rows are compared."""

    first = ("cdc-intent", "cdc-slot", "cdc-snapshot")
    points = (*first, *SEAM, "cdc-peeked", "cdc-changes", "cdc-applied")
    rounds = 3

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.shop = BinlogShop(_server(), f"chaos{next(_number)}")
        self.shop.create(rows=20)
        self.source = self.shop.source
        self.tables = (*self.source.tables, *map(changes_table, self.source.tables))
        self.loader = BinlogLoader(self.shop.uri)
        self.writing: list[threading.Thread] = []

    def advance(self) -> None:
        seed = self.random.randrange(1 << 30)
        warm = threading.Barrier(WRITERS + 1)  # a capture that comes before the first change would pass no point

        def write(number: int) -> None:
            for done, _ in enumerate(self.shop.commits(random.Random(seed + number).randrange(1 << 30), TRANSACTIONS)):
                if done == 3:
                    warm.wait(30)

        self.writing = [threading.Thread(target=write, args=(number,), daemon=True) for number in range(WRITERS)]
        for thread in self.writing:
            thread.start()
        warm.wait(30)

    def settle(self) -> None:
        for thread in self.writing:
            thread.join(60)
            assert not thread.is_alive()
        self.writing = []

    def truth(self) -> dict[str, Rows]:
        found: dict[str, Rows] = {}
        for table in self.source.tables:
            found[table.name] = found[f"{table.name}, from its changes"] = self.shop.truth(table)
        return found

    def landed(self, connection: Connection) -> dict[str, Rows]:
        return as_captured(connection, self.source)

    def close(self) -> None:
        self.settle()
        self.shop.drop()
