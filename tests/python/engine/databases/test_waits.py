"""Every wait for a source database has a limit: for a server that is gone, and for one that takes us and is silent."""

from __future__ import annotations

import socket
import sqlite3
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from granary.readers.database import connecting
from granary.readers.database.connecting import Database
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


@pytest.fixture
def silent() -> Iterator[int]:
    """Return the port of a server that takes every connection, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


class Driver:
    """Notes what a driver is told."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}

    def connect(self, *_: Any, **options: Any) -> Any:
        self.told = options
        raise sqlite3.OperationalError("noted")


@pytest.mark.parametrize(
    ("uri", "timeout", "limits"),
    [
        ("mysql://u:p@h/d", DAY, {"connect_timeout": 10, "read_timeout": 300, "write_timeout": 300}),
        ("mariadb://u:p@h/d", DAY, {"connect_timeout": 10, "read_timeout": 300, "write_timeout": 300}),
        ("mssql://u:p@h/d", DAY, {"login_timeout": 10, "timeout": 300}),
        ("mssql://u:p@h/d", MINUTE, {"login_timeout": 10, "timeout": 60}),
        ("oracle://u:p@h/d", DAY, {"tcp_connect_timeout": 10, "expire_time": 1}),
    ],
)
def test_each_driver_is_told_its_limits(
    monkeypatch: pytest.MonkeyPatch, uri: str, timeout: timedelta, limits: dict[str, int]
) -> None:
    engine = Database(uri, timeout).engine()
    driver = Driver()
    monkeypatch.setattr(engine.dialect, "connect", driver.connect)
    with pytest.raises(sqlite3.OperationalError, match="noted"):
        engine.raw_connection()
    assert {name: driver.told.get(name) for name in limits} == limits


@pytest.mark.parametrize(("timeout", "milliseconds"), [(DAY, 300_000), (MINUTE, 60_000)])
def test_an_answer_of_oracle_has_its_limit(timeout: timedelta, milliseconds: int) -> None:
    class Session:
        call_timeout = 0

        def cursor(self) -> Session:
            return self

        def __enter__(self) -> Session:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def execute(self, statement: str) -> None:
            assert statement == "alter session set time_zone = 'UTC'"

    session = Session()
    connecting._prepare(session, "oracle", timeout, writes=False)
    assert session.call_timeout == milliseconds


def test_libpq_is_told_its_limits_where_the_uri_has_none() -> None:
    given = parse_qs(urlsplit(Database("postgresql://u@h/d?connect_timeout=3", DAY).libpq).query)
    assert given == {
        "connect_timeout": ["3"],
        "keepalives_idle": ["30"],
        "keepalives_interval": ["10"],
        "keepalives_count": ["3"],
        "tcp_user_timeout": ["60000"],
        "application_name": ["granary"],
    }


@pytest.mark.parametrize("kind", ["oracle", "mssql", "mysql"])
def test_a_server_that_takes_us_and_is_silent_is_given_up(
    monkeypatch: pytest.MonkeyPatch, silent: int, kind: str
) -> None:
    monkeypatch.setattr(connecting, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(connecting, "LOGIN_SECONDS", 1)
    monkeypatch.setattr(connecting, "SILENCE_SECONDS", 1)
    database = Database(f"{kind}://user:secret@127.0.0.1:{silent}/shop", DAY)
    began = time.monotonic()
    with pytest.raises(GranaryError) as refused, database.session(database.engine(), "shop.orders"):
        pass
    assert time.monotonic() - began < 20
    assert "secret" not in str(refused.value)
    assert "(shop.orders); check that the source database is up, then load again" in str(refused.value)


def test_a_session_of_sqlite_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as shop:
        shop.execute("create table orders (id integer)")
    database = Database(f"sqlite:///{path}", DAY)
    with (
        pytest.raises(GranaryError, match="attempt to write a readonly database"),
        database.session(database.engine(), "orders") as session,
    ):
        session.exec_driver_sql("insert into orders values (1)")
    missing = Database(f"sqlite:///{tmp_path / 'none.db'}", DAY)
    with pytest.raises(GranaryError, match="unable to open"), missing.session(missing.engine(), "orders"):
        pass
    assert not (tmp_path / "none.db").exists()
