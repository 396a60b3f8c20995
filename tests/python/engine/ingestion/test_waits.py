"""Every wait for the server has a limit, says who is waited for, and ends by a signal."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from psycopg.errors import LockNotAvailable

from granary.load.api import load_table
from granary.warehouse import connection as connections
from granary.warehouse import server, waits, writer
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError
from tests.python.engine.ingestion.conftest import lines
from tests.python.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.settings import Settings
    from tests.python.engine.ingestion.conftest import Landing

HELD = r"is held by pid \d+ \(granary, granary, since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\)"
ADVISORY = (
    "hashtext('granary.prepare')",
    "hashtextextended('granary.load.till', 0)",
    "hashtextextended('granary.forget', 0)",
)
BIG = 400_000


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Have limits of a second, and return what is told of waits."""
    said: list[str] = []
    monkeypatch.setattr(waits, "LOOKS", (0.1, 0.2))
    monkeypatch.setattr(waits, "SILENCE_SECONDS", 1)
    monkeypatch.setattr(waits, "notify", said.append)
    monkeypatch.setattr(connections, "LOCK_SECONDS", 1)
    monkeypatch.setattr(server, "LOCK_SECONDS", 1)
    monkeypatch.setattr(writer, "LOCK_WAIT_SECONDS", 1)
    return said


@pytest.mark.usefixtures("impatient")
def test_an_analyst_with_every_advisory_lock_stops_nobody(warehouse: Settings, landing: Landing) -> None:
    landing.put("2017-01-02", lines("2017-01-02", 3))
    with connect(warehouse, role="analyst") as analyst:
        for key in ADVISORY:
            query(analyst, f"select pg_advisory_lock({key})")
        server.prepare(warehouse)
        assert load_table(warehouse, "till", "receipts").rows_loaded == 3


def test_who_prepares_waits_for_another_only_so_long_and_says_for_whom(
    warehouse: Settings, impatient: list[str]
) -> None:
    with connect(warehouse) as other:
        connections.lock(other, "prepare", 1)
        with pytest.raises(GranaryError, match=f"cannot be prepared: lock timeout after .*{HELD}"):
            server.prepare(warehouse)
    assert len(impatient) == 1
    assert impatient[0].startswith("waiting for a lock: ")


def test_a_lock_on_a_raw_table_ends_the_load_and_names_its_holder(
    warehouse: Settings, landing: Landing, impatient: list[str]
) -> None:
    landing.put("2017-01-02", lines("2017-01-02", 3))
    load_table(warehouse, "till", "receipts")
    landing.put("2017-01-03", lines("2017-01-03", 4))
    with connect(warehouse) as other:
        execute(other, "lock table raw_till.receipts in access exclusive mode")
        with pytest.raises(GranaryError, match=rf"lock timeout after .*raw_till\.receipts {HELD}"):
            load_table(warehouse, "till", "receipts")
    assert "raw_till.receipts" in impatient[0]
    assert load_table(warehouse, "till", "receipts").rows_loaded == 4


def test_two_loads_of_a_source_say_who_was_first(warehouse: Settings, landing: Landing, impatient: list[str]) -> None:
    landing.put("2017-01-02", lines("2017-01-02", 3))
    with (
        writer.LoadTransaction(warehouse, "till"),
        pytest.raises(
            GranaryError, match=r"another load of source till .* is held by pid \d+ \(loader, granary, since"
        ),
    ):
        load_table(warehouse, "till", "receipts")


def test_publishing_waits_for_its_lock_only_so_long(warehouse: Settings) -> None:
    """dbt does not use our connections: the server's function says who has the lock."""
    with connect(warehouse, role="analyst") as analyst, connect(warehouse, role="transformer") as dbt:
        query(analyst, "select pg_advisory_lock(hashtext('granary.publish.marts'))")
        short = "alter function ops.take_lock(bigint, text, boolean) set lock_timeout = '200ms'"
        with connect(warehouse, autocommit=True) as owner:
            execute(owner, short)
        with pytest.raises(LockNotAvailable) as refused:
            execute(dbt, "select ops.take_lock(hashtext('granary.publish.marts'), 'publishing', false)")
        assert "publishing is held by pid" in str(refused.value)
        assert "(analyst, granary), since" in str(refused.value)


def test_a_long_query_is_no_silence(warehouse: Settings, impatient: list[str]) -> None:
    with connect(warehouse) as connection:
        assert query(connection, "select 1 from pg_sleep(2)") == [(1,)]
    assert impatient == []


@pytest.mark.usefixtures("impatient")
def test_a_frozen_network_in_mid_copy_ends_the_load(warehouse: Settings, landing: Landing) -> None:
    landing.put("2017-01-02", lines("2017-01-02", BIG))
    with Proxy(Path(warehouse.host) / ".s.PGSQL.5432") as proxy:
        far = replace(warehouse, external=True, host="127.0.0.1", port=proxy.port)

        def freeze(_: object) -> None:
            proxy.stall()

        with pytest.raises(GranaryError, match="has not answered for 1 s"):
            load_table(far, "till", "receipts", progress=freeze)
    assert load_table(warehouse, "till", "receipts").rows_loaded == BIG


LOADER = """
import signal, sys
from dataclasses import replace
from granary.load.api import load_table
from granary.warehouse.settings import Settings

def end(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGTERM, end)
settings = replace(Settings.load(), external=True, host="127.0.0.1", port=int(sys.argv[1]))

def tell(progress):
    print(progress.rows, flush=True)
    sys.stdin.readline()

load_table(settings, "till", "receipts", progress=tell)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_load_whose_network_is_frozen(
    warehouse: Settings, landing: Landing, how: signal.Signals
) -> None:
    landing.put("2017-01-02", lines("2017-01-02", BIG))
    with Proxy(Path(warehouse.host) / ".s.PGSQL.5432") as proxy:
        child = subprocess.Popen(
            [sys.executable, "-c", LOADER, str(proxy.port)],
            env=warehouse.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdout
        assert child.stdin
        child.stdout.readline()
        proxy.stall()
        child.stdin.write("\n" * 100)
        child.stdin.flush()
        began = time.monotonic()
        threading.Timer(1, child.send_signal, (how,)).start()  # by then it waits for the network
        _, errors = child.communicate(timeout=60)
        assert time.monotonic() - began < 25, errors
        assert "KeyboardInterrupt" in errors
