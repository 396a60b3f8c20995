"""An external Postgres is dumped: to the same destinations, and back by way of databases of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from granary.backup import base, catalog, logical, restore
from granary.backup.config import Config
from granary.backup.drill import drill
from granary.backup.sealing import new_identity
from granary.readers.files.destination import Folder
from granary.warehouse import server
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError
from tests.python.engine.backup.conftest import PLANTED, Kept, rows, tell

if TYPE_CHECKING:
    from pathlib import Path

    from granary.warehouse.settings import Settings


@pytest.fixture
def external(kept: Kept) -> Settings:
    """Return a warehouse on a server that, as far as Granary knows, is not its own."""
    settings = replace(kept.settings, home=kept.settings.home / "external", external=True, database="elsewhere")
    server.prepare(settings)
    with connect(settings) as connection:
        execute(connection, PLANTED)
        connection.commit()
    return settings


def test_a_dump_comes_back(external: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = new_identity()
    place, config = Folder(tmp_path), Config(to=str(tmp_path), encrypt_to=(public,))
    tell(external, 1)
    made = base.take(external, config, place)
    assert (made.kind, made.databases, catalog.backups(place)) == ("logical", ("elsewhere",), [made])
    tell(external, 2)
    with pytest.raises(GranaryError, match="there is a warehouse"):
        restore.restore(external, config)
    with pytest.raises(GranaryError, match="it is encrypted, and no key is set"):
        restore.restore(external, config, replace_it=True)
    assert rows(external) == [1, 2]
    monkeypatch.setenv("GRANARY_BACKUP_KEY", private)
    report = drill(external, config)
    assert (report.words, report.backup) == ("", made.name)
    restore.restore(external, config, replace_it=True)
    assert rows(external) == [1]
    with connect(external, "postgres") as connection:
        left = query(connection, "select datname::text from pg_database where datname like 'elsewhere%'")
    assert left == [("elsewhere",)]


def test_a_program_must_be_as_new_as_the_server() -> None:
    assert logical.program_of("pg_dump", 18)
    with pytest.raises(GranaryError, match="pg_dump of Postgres 99 is not there"):
        logical.program_of("pg_dump", 99)
