"""A dump of a warehouse whose roles have the database's name before theirs comes back with these roles."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from granary.backup import logical
from granary.backup.config import Config
from granary.dagster.instance import prepare_instance
from granary.readers.files.destination import Folder
from granary.warehouse import server
from granary.warehouse.connection import connect, query
from tests.python.engine.external.conftest import Tills, chosen
from tests.python.support.external_server import quoted

if TYPE_CHECKING:
    from pathlib import Path

    from tests.python.support.external_server import Server

ROLES = "select rolname::text from pg_roles where rolname like '%\\_loader' order by 1"


def test_a_dump_comes_back_with_its_roles(managed: Server, tmp_path: Path) -> None:
    """Only a superuser gives what is in a dump to its owners. Beside the warehouse it is none with roles of its own."""
    with managed.connect() as connection:
        connection.execute(f"alter role postgres password {quoted()}")
    settings = replace(managed.settings(tmp_path / "home"), user="postgres", database="kept")
    place = Folder(tmp_path / "kept")
    with chosen(settings):
        server.prepare(settings)
        prepare_instance(settings)
        tills = Tills(tmp_path / "till", settings)
        tills.put("2017-01-02")
        tills.load()
        made = logical.take(settings, Config(to=str(tmp_path / "kept")), place)
        assert (made.role_prefix, made.databases) == ("kept_", ("kept", "kept_dagster"))
        tills.put("2017-01-03")
        tills.load()
        aside = logical.aside_of(settings, "aside")
        logical.load(aside, place, logical.choose(place, None), [])
        with connect(settings) as connection:
            assert ("kept_aside_loader",) not in query(connection, ROLES)
        logical.swap(settings, aside)
        with connect(settings, role="transformer") as connection:
            assert query(connection, "select count(*) from raw_till.receipts") == [(2,)]
        assert tills.load().rows_loaded == 2
