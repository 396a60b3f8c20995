"""The server goes away in the middle of a load or a build: nothing is lost, nothing is there twice."""

from __future__ import annotations

import signal
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from granary.warehouse import server, writer
from granary.warehouse.connection import connect, query
from granary.warehouse.environment_errors import plainly
from granary.warehouse.errors import TransientError
from tests.python.engine.external.conftest import Tills, chosen, dbt_of_a_shell, server_of, with_tls
from tests.python.support import external_server
from tests.python.support.external_server import Server, make_rights, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from granary.warehouse.settings import Settings

LEDGER = "select unit, status, rows_loaded from ops.load_audit where status = 'loaded' order by unit"
WAITS = "select pid from pg_stat_activity where application_name = 'dbt' and wait_event_type = 'Lock'"


@contextmanager
def pair() -> Iterator[tuple[Server, Server]]:
    """Yield a server, and a standby that has each commit before it is told; both on one port, of two addresses."""
    with server_of(with_tls()) as primary, external_server.folder() as place:
        standby = replace(primary, folder=place)
        to = ("-h", str(primary.folder), "-p", str(primary.port), "-U", "postgres", "-D", str(standby.data))
        standby.command("pg_basebackup", *to, "-R", "-X", "stream", "-c", "fast")
        standby.configure(listen_addresses="'127.0.0.2'", unix_socket_directories=f"'{place}'")
        standby.start()
        with primary.connect() as connection:
            connection.execute("alter system set synchronous_standby_names = '*'")
            connection.execute("select pg_reload_conf()")
        try:
            yield primary, standby
        finally:
            standby.stop("immediate")


def at(point: str, work: Callable[[], object]) -> Callable[[str], None]:
    """Return a fault point that does something the first time that one is passed."""
    left = [work]

    def passed(name: str) -> None:
        if name == point and left:
            left.pop()()

    return passed


def loaded(settings: Settings) -> list[tuple[Any, ...]]:
    with connect(settings) as connection:
        return query(connection, LEDGER)


@pytest.mark.parametrize("point", ["before-commit", "after-commit"])
def test_a_load_goes_on_after_a_failover_to_the_standby(
    point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the commit nothing of it is there, after it everything: the next load knows."""
    with pair() as (primary, standby):
        settings = replace(
            make_rights(primary, tmp_path / "home"),
            host="127.0.0.1,127.0.0.2",
            libpq=(("target_session_attrs", "read-write"),),
        )
        with chosen(settings):
            server.prepare(settings)
            tills = Tills(tmp_path / "till", settings)
            tills.put("2017-01-02")
            assert tills.load().rows_loaded == 2
            tills.build()

            def fail_over() -> None:
                primary.stop("immediate")
                standby.configure(synchronous_standby_names="''")
                standby.command("pg_ctl", "promote", "-w", "-D", str(standby.data))
                with standby.connect() as connection:
                    connection.execute("alter system reset synchronous_standby_names")
                    connection.execute("select pg_reload_conf()")
                if point == "after-commit":
                    raise psycopg.OperationalError("the server's answer is lost")

            tills.put("2017-01-03")
            monkeypatch.setattr(writer, "fault_point", at(point, fail_over))
            with pytest.raises(Exception) as raised:  # noqa: PT011 - whatever it is, it is plain and may pass
                tills.load()
            assert isinstance(plainly(raised.value), TransientError)
            again = tills.load()
            assert again.rows_loaded == (2 if point == "before-commit" else 0)
            assert loaded(settings) == [
                ("receipts/2017-01-02.parquet", "loaded", 2),
                ("receipts/2017-01-03.parquet", "loaded", 2),
            ]
            tills.build()
            assert tills.published() == [("2017-01-02", 2, "3.00"), ("2017-01-03", 2, "3.00")]


@pytest.fixture(scope="module")
def prepared(managed: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tills]:
    """Return tills with a day that is published."""
    settings = make_rights(managed, tmp_path_factory.mktemp("shop"))
    with chosen(settings):
        server.prepare(settings)
        tills = Tills(tmp_path_factory.mktemp("tills") / "till", settings)
        tills.put("2017-01-02")
        tills.load()
        tills.build()
        yield tills


def test_a_load_whose_session_is_ended_is_undone_and_done_again(
    managed: Server, prepared: Tills, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end_sessions() -> None:
        with managed.connect() as connection:
            connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'etl'")

    before = len(loaded(prepared.settings))
    prepared.put("2017-01-03")
    monkeypatch.setattr(writer, "fault_point", at("before-commit", end_sessions))
    with pytest.raises(Exception) as raised:  # noqa: PT011 - as above
        prepared.load()
    assert isinstance(plainly(raised.value), TransientError)
    assert len(loaded(prepared.settings)) == before
    assert prepared.load().rows_loaded == 2
    assert len(loaded(prepared.settings)) == before + 1


@pytest.mark.parametrize("how", ["its session is ended", "the server is restarted"])
def test_a_build_that_is_cut_off_leaves_readers_what_they_had(
    managed: Server, prepared: Tills, tmp_path: Path, how: str
) -> None:
    before = prepared.published()
    day = "2017-02-01" if "session" in how else "2017-02-02"
    prepared.put(day)
    prepared.load()
    with closing(managed.connect(prepared.settings.database)) as holder:
        holder.execute("begin; lock table raw_till.receipts")
        shell = dbt_of_a_shell(tmp_path)
        with managed.connect() as connection:
            wait_for("dbt waits", lambda: connection.execute(WAITS).fetchall())
            if "session" in how:
                connection.execute(f"select pg_terminate_backend(pid) from ({WAITS}) as dbt")
        if "server" in how:
            managed.stop("immediate")
            managed.start()
        said, _ = shell.communicate(timeout=120)
        assert shell.returncode != 0, said
    assert prepared.published() == before
    prepared.build()
    assert (day, 2, "3.00") in prepared.published()


def test_ctrl_c_ends_what_dbt_waits_for(managed: Server, prepared: Tills, tmp_path: Path) -> None:
    """The session's login is not dbt's role, which could not end it."""
    with closing(managed.connect(prepared.settings.database)) as holder, managed.connect() as connection:
        holder.execute("begin; lock table raw_till.receipts")
        shell = dbt_of_a_shell(tmp_path)
        wait_for("dbt waits", lambda: connection.execute(WAITS).fetchall())
        shell.send_signal(signal.SIGINT)
        said, _ = shell.communicate(timeout=120)
        assert shell.returncode != 0
        assert "permission denied" not in said, said
        assert connection.execute(WAITS).fetchall() == []
