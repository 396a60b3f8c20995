"""Change capture: a source database under a concurrent write load, its slot, its change tables and its copy."""

from __future__ import annotations

import atexit
import os
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granary.cdc.capture import opened
from granary.sources.capture import changes_table
from granary.warehouse.connection import query
from tests.python.engine.chaos.world import SEAM, Rows, World
from tests.python.support.captured_shop import SETTING, SOURCE, Shop, fold
from tests.python.support.captured_shop import _columns as columns_as_text
from tests.python.support.captured_shop import _sql_name as name_at_source
from tests.python.support.origin_server import OriginServer

if TYPE_CHECKING:
    from granary.sources.spec import Source
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

WRITERS, TRANSACTIONS = 2, 25
"""What goes on at the source while captures are disrupted: transactions of each writer in a round."""

_number = count(1)


def as_captured(connection: Connection, source: Source) -> dict[str, Rows]:
    """Return the rows of each table that is there, and again as its changes make them up."""
    found: dict[str, Rows] = {}
    for table in source.tables:
        name = f"raw_{source.name}.{table.name}"
        if query(connection, "select to_regclass($1)::text", name) == [(None,)]:
            continue
        found[table.name] = Counter(query(connection, f"select {columns_as_text(table)} from {name}"))
        try:
            folded = Counter(fold(connection, source, table))
        except (AssertionError, KeyError) as error:
            folded = Counter([(f"its changes contradict each other: {error!r}",)])
        found[f"{table.name}, from its changes"] = folded
    return found


@cache
def _server() -> OriginServer:
    """Return a source server of this process; it takes some seconds to make."""
    server = OriginServer(Path(tempfile.mkdtemp(prefix="g-src-", dir="/tmp")))
    server.create()
    atexit.register(server.remove)
    return server


@dataclass(frozen=True)
class CaptureLoader:
    """Captures what the source has committed."""

    uri: str
    slot: str

    def load(self, settings: Settings) -> None:
        """Capture once: the snapshot if there is none, then every change."""
        os.environ[SETTING] = self.uri
        assert SOURCE.capture
        with opened(settings, replace(SOURCE, capture=replace(SOURCE.capture, slot=self.slot))) as capturing:
            capturing.once()


class CaptureWorld(World):
    """A shop whose writers are at work while its capture is killed, and at rest when the rows are compared."""

    first = ("cdc-intent", "cdc-slot", "cdc-snapshot")
    points = (*first, *SEAM, "cdc-peeked", "cdc-changes", "cdc-applied", "cdc-before-advance", "cdc-after-advance")
    rounds = 3

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.shop = Shop(_server(), f"chaos{next(_number)}")
        self.shop.create(rows=20)
        self.source = self.shop.source
        assert self.source.capture
        self.tables = (*self.source.tables, *map(changes_table, self.source.tables))
        self.loader = CaptureLoader(self.shop.uri, self.source.capture.slot)
        self.writing = ExitStack()

    def advance(self) -> None:
        seed = self.random.randrange(1 << 30)
        warm = self.writing.enter_context(self.shop.writing(seed, WRITERS, TRANSACTIONS))
        assert warm.wait(30)  # a capture that comes before the first change would pass no point

    def settle(self) -> None:
        self.writing.close()

    def truth(self) -> dict[str, Rows]:
        found: dict[str, Rows] = {}
        for table in self.source.tables:
            rows = self.shop.rows(f"select {columns_as_text(table, source=True)} from {name_at_source(table)}")
            found[table.name] = found[f"{table.name}, from its changes"] = Counter(rows)
        return found

    def landed(self, connection: Connection) -> dict[str, Rows]:
        return as_captured(connection, self.source)

    def close(self) -> None:
        self.settle()
        assert self.source.capture
        slot = self.source.capture.slot
        self.shop.sql(
            f"select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '{slot}' and active",
            f"select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '{slot}'",
        )
        _server().run("postgres", [f"drop database {self.shop.database} with (force)"])
