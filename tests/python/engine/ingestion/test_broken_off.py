"""Loads that end in the middle: the warehouse is killed, full or busy; the loader is interrupted or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from granary.load import api as load
from granary.load.api import load_table
from granary.warehouse import server, writer
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.settings import Settings
from tests.python.engine.ingestion.conftest import lines
from tests.python.support.command import own_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.python.engine.ingestion.conftest import Landing

    Rows = Callable[..., list[tuple[object, ...]]]

BIG = 400_000
"""Rows that take several batches and about 60 MB in Postgres."""


def _count(settings: Settings) -> int:
    with connect(settings) as connection:
        if query(connection, "select to_regclass('raw_till.receipts')::text") == [(None,)]:
            return 0
        return int(str(query(connection, "select count(*) from raw_till.receipts")[0][0]))


def test_warehouse_killed_in_mid_load(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    landing.put("2017-01-02", lines("2017-01-02", BIG))
    with own_server(monkeypatch) as settings:
        postmaster = int((settings.home / "data" / "postmaster.pid").read_text().split()[0])
        killed = []

        def kill(progress: load.Progress) -> None:
            if not killed and progress.rows > BIG // 2:
                os.kill(postmaster, signal.SIGKILL)
                killed.append(progress.rows)

        # The backends notice that their postmaster is gone only when they next wait; the loader may still finish its
        # COPY, but its commit or its next load must not leave half a table.
        with suppress(GranaryError):
            load_table(settings, "till", "receipts", progress=kill)
        assert killed
        server.up(settings)
        assert _count(settings) in (0, BIG)
        load_table(settings, "till", "receipts")
        assert _count(settings) == BIG


def test_warehouse_stopped_in_mid_load(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    landing.put("2017-01-02", lines("2017-01-02", BIG))
    with own_server(monkeypatch) as settings:
        stopped: list[bool] = []

        def stop(progress: load.Progress) -> None:
            if not stopped and progress.rows > BIG // 2:
                stopped.append(server.down(settings))

        with pytest.raises(GranaryError, match=r"the load was interrupted by the warehouse: .*till\.receipts"):
            load_table(settings, "till", "receipts", progress=stop)
        assert stopped == [True]
        server.up(settings)
        assert _count(settings) == 0
        assert load_table(settings, "till", "receipts").rows_loaded == BIG
        assert _count(settings) == BIG


def test_warehouse_full(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    landing.put("2017-01-02", lines("2017-01-02", 10))
    landing.put("2017-01-03", lines("2017-01-03", BIG))
    with own_server(monkeypatch, file_limit=24 * 1024 * 1024) as settings:
        with pytest.raises(GranaryError, match=r"the load was interrupted by the warehouse: could not (extend|write)"):
            load_table(settings, "till", "receipts")
        assert _count(settings) == 0
        with connect(settings) as connection:
            assert query(connection, "select status, rows_loaded from ops.load_audit") == [("failed", 0)]
        landing.put("2017-01-03", lines("2017-01-03", 5))
        load_table(settings, "till", "receipts")
        assert _count(settings) == 15


LOADER = """
import sys
from granary.load.api import load_table
from granary.warehouse.settings import Settings

def tell(progress):
    print(progress.rows, flush=True)
    sys.stdin.readline()

load_table(Settings.load(), "till", "receipts", progress=tell)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_loader_interrupted_and_killed(warehouse: Settings, landing: Landing, rows: Rows, how: signal.Signals) -> None:
    landing.put("2017-01-02", lines("2017-01-02", BIG))
    child = subprocess.Popen(
        [sys.executable, "-c", LOADER],
        env=warehouse.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout
    assert child.stdin
    # Two batches are on their way when the signal comes; the loader waits for a line, so it cannot be done already.
    child.stdout.readline()
    child.stdin.write("\n")
    child.stdin.flush()
    child.stdout.readline()
    child.send_signal(how)
    _, errors = child.communicate(timeout=60)
    assert child.returncode != 0
    if how is signal.SIGINT:
        assert "KeyboardInterrupt" in errors
    assert rows("select to_regclass('raw_till.receipts')::text") == [(None,)]
    assert load_table(warehouse, "till", "receipts").rows_loaded == BIG
    assert rows("select count(*) from raw_till.receipts") == [(BIG,)]


def test_second_loader_of_a_source_waits(warehouse: Settings, landing: Landing, rows: Rows) -> None:
    landing.put("2017-01-02", lines("2017-01-02", 3))
    first = writer.LoadTransaction(warehouse, "till")
    second = threading.Thread(target=load_table, args=(warehouse, "till", "receipts"))
    second.start()
    waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    while rows(waiting) == [(0,)]:
        assert second.is_alive()
    with first:
        assert first.query("select to_regclass('raw_till.receipts')::text") == [(None,)]
    second.join()
    assert rows("select count(*) from raw_till.receipts") == [(3,)]


def test_second_loader_refuses_when_it_waited_long(
    warehouse: Settings, landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LOCK_WAIT_SECONDS", 1)
    with (
        writer.LoadTransaction(warehouse, "till"),
        pytest.raises(GranaryError, match="another load of source till has been running for over 1 s"),
    ):
        load_table(warehouse, "till", "receipts")
