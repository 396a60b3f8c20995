"""The embedded server: who may come in, how it is tuned, what survives a kill; roles on any server."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from psycopg.errors import InsufficientPrivilege

from granary.warehouse import server
from granary.warehouse.connection import connect, execute, query, quote_name
from granary.warehouse.errors import GranaryError
from granary.warehouse.settings import Settings
from tests.python.support.command import own_server

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1024**3


def test_up_down_and_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    with own_server(monkeypatch) as settings:
        assert server.running(settings)
        assert not server.up(settings)
        with connect(settings) as connection:
            assert query(connection, "select current_setting('listen_addresses'), current_user::text") == [
                ("", "granary")
            ]
            assert query(connection, "select count(*) from pg_authid where rolpassword is not null") == [(0,)]
        socket = settings.home / "run"
        assert socket.stat().st_mode & 0o077 == 0
        postmaster = int((settings.home / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        server.up(settings)
        assert server.running(settings)
        assert server.down(settings)
        assert not server.down(settings)
        with pytest.raises(GranaryError, match=r"cannot connect to Postgres.*start it with `granary up`"):
            connect(settings)
        (settings.home / "data" / "PG_VERSION").unlink()  # as if initdb had been killed half-way
        assert server.up(settings)


def test_tuning_follows_the_machine(tmp_path: Path) -> None:
    large = server.tuning(tmp_path, total=24 * GIB, cores=2)
    assert (large["shared_buffers"], large["work_mem"], large["max_parallel_workers_per_gather"]) == (
        "4096MB",
        "256MB",
        "2",
    )
    small = server.tuning(tmp_path, total=1 * GIB, cores=1)
    assert (small["shared_buffers"], small["work_mem"], small["maintenance_work_mem"]) == ("256MB", "10MB", "85MB")


@pytest.mark.parametrize(
    ("role", "sql", "allowed"),
    [
        ("loader", "create schema raw_new", True),
        ("loader", "update ops.load_audit set error = null", True),
        ("loader", "delete from ops.load_audit", False),
        ("transformer", "select * from ops.load_audit", True),
        ("transformer", "insert into ops.model_watermarks (model, source, load_id) values ('m', 's', 1)", True),
        ("transformer", "update ops.load_audit set error = null", False),
        ("transformer", "select * from ops.quarantine", True),
        ("analyst", "select * from ops.load_audit", False),
        ("analyst", "create schema mine", False),
        ("analyst", "create table public.mine (n integer)", False),
    ],
)
def test_roles_may_do_their_work_and_no_more(settings: Settings, role: str, sql: str, allowed: bool) -> None:
    with connect(settings, role=role) as connection:
        if allowed:
            execute(connection, sql)
        else:
            with pytest.raises(InsufficientPrivilege, match="permission denied"):
                execute(connection, sql)


def test_settings_read_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GRANARY_HOME", "/tmp/g")
    assert (
        Settings.load().uri()
        == "postgresql://granary@/granary?host=%2Ftmp%2Fg%2Frun&port=5432&application_name=granary"
    )
    monkeypatch.setenv("PGHOST", "db.example")
    monkeypatch.setenv("PGPORT", "6432")
    monkeypatch.setenv("PGUSER", "etl")
    monkeypatch.setenv("PGPASSWORD", "p@ss/word")
    external = Settings.load()
    assert external.external
    assert external.uri("x").startswith("postgresql://etl:p%40ss%2Fword@/x?host=db.example&port=6432")
    assert "p@ss/word" not in repr(external)
    monkeypatch.setenv("PGPORT", "many")
    with pytest.raises(GranaryError, match="PGPORT is not a number"):
        Settings.load()
    monkeypatch.delenv("PGHOST")
    monkeypatch.setenv("GRANARY_HOME", "/tmp/" + "x" * 100)
    with pytest.raises(GranaryError, match="socket is longer than 103 bytes"):
        Settings.load()


def test_names_are_quoted() -> None:
    assert quote_name('a"b') == '"a""b"'
    with pytest.raises(GranaryError, match="cannot be a name in Postgres"):
        quote_name("x" * 64)
