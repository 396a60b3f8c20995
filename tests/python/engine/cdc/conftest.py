"""One source server for the whole run; a database of its own for each test."""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.python.support import mariadb
from tests.python.support.binlog_shop import SETTING as STALL
from tests.python.support.binlog_shop import BinlogShop
from tests.python.support.captured_shop import SETTING, Shop
from tests.python.support.origin_server import OriginServer

if TYPE_CHECKING:
    from collections.abc import Iterator

_number = count(1)


@pytest.fixture(scope="session")
def origin() -> Iterator[OriginServer]:
    base = Path(tempfile.mkdtemp(prefix="g-src-", dir="/tmp"))
    server = OriginServer(base)
    server.create()
    yield server
    server.remove()


@pytest.fixture
def shop(origin: OriginServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    made = Shop(origin, f"shop{next(_number)}")
    made.create()
    monkeypatch.setenv(SETTING, made.uri)
    yield made
    slot = made.source.capture.slot
    made.sql(f"select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '{slot}'")
    origin.run("postgres", [f"drop database {made.database} with (force)"])


@pytest.fixture(scope="session")
def binlog_server() -> Iterator[mariadb.MariaDB]:
    program = mariadb.binary()
    if program is None:
        pytest.skip(f"there is no MariaDB server here: install the Debian package {mariadb.PACKAGE}")
    server = mariadb.start(program, *mariadb.BINLOG)
    yield server
    server.stop()


@pytest.fixture
def stall(binlog_server: mariadb.MariaDB, monkeypatch: pytest.MonkeyPatch) -> Iterator[BinlogShop]:
    made = BinlogShop(binlog_server, f"stall{next(_number)}")
    made.create()
    monkeypatch.setenv(STALL, made.uri)
    yield made
    made.drop()
