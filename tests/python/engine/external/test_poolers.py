"""A pooler between us and the server would hand our role, locks and limits to whoever comes next: it is refused."""

from __future__ import annotations

import socket
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from granary.warehouse import server
from granary.warehouse.connection import connect
from granary.warehouse.errors import GranaryError
from tests.python.engine.external.conftest import Tills, build, chosen
from tests.python.support.external_server import (
    LOGIN,
    PASSWORD,
    folder,
    give,
    identity,
    make_rights,
    packaged,
    wait_for,
)
from tests.python.support.origin_server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from granary.warehouse.settings import Settings
    from tests.python.support.external_server import Server


@contextmanager
def pgbouncer(managed: Server, mode: str, ignored: str) -> Iterator[int]:
    """Yield the port of a pgbouncer in front of the server."""
    program = packaged("pgbouncer", "pgbouncer")
    with folder() as place:
        port, quoted = free_port(), PASSWORD.replace('"', '""')
        files = {
            "users.txt": f'"{LOGIN}" "{quoted}"\n',
            "pgbouncer.ini": (
                f"[databases]\n* = host={managed.folder} port={managed.port}\n"
                f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
                f"auth_type = plain\nauth_file = {place}/users.txt\npool_mode = {mode}\n"
                f"ignore_startup_parameters = extra_float_digits{ignored}\nlogfile = {place}/log\n"
            ),
        }
        for name, text in files.items():
            (place / name).write_text(text)
            give(place / name)
        process = subprocess.Popen(
            [program, "--quiet", str(place / "pgbouncer.ini")], stderr=subprocess.DEVNULL, cwd=place, **identity()
        )
        try:
            wait_for("pgbouncer answers", lambda: answers(port))
            yield port
        finally:
            process.terminate()
            process.wait(30)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def shop(managed: Server, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = make_rights(managed, tmp_path_factory.mktemp("shop"))
    with chosen(settings):
        server.prepare(settings)
    return settings


@pytest.mark.parametrize("mode", ["transaction", "session", "statement"])
@pytest.mark.parametrize("ignored", ["", ", options"])
def test_a_pooler_is_refused_by_everything_that_works_on_the_warehouse(
    managed: Server, shop: Settings, mode: str, ignored: str
) -> None:
    with pgbouncer(managed, mode, ignored) as port:
        pooled = replace(shop, port=port)
        for work in (lambda: server.prepare(pooled), lambda: connect(pooled, role="loader"), lambda: connect(pooled)):
            with pytest.raises(GranaryError, match=r"a connection pooler .* answers, and not Postgres itself"):
                work()


def test_dbt_refuses_it_and_so_does_a_load(managed: Server, shop: Settings, tmp_path: Path) -> None:
    with pgbouncer(managed, "transaction", ", options") as port, chosen(replace(shop, port=port)):
        done = build(tmp_path / "dbt")
        assert not done.success
        assert "a connection pooler" in str(done.exception)
        tills = Tills(tmp_path / "till", replace(shop, port=port))
        tills.put("2017-01-02")
        with pytest.raises(GranaryError, match="a connection pooler"):
            tills.load()
    with managed.connect() as connection:  # and leaves its role to nobody
        assert connection.execute(
            "select count(*) from pg_stat_activity where application_name = 'granary' and state <> 'idle'"
        ).fetchall() == [(0,)]
