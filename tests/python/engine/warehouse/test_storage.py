"""`granary status --storage`: every byte of the home is in one part, and none in two."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from granary.warehouse import storage
from granary.warehouse.connection import connect, execute, query
from tests.python.support.command import granary, own_server

if TYPE_CHECKING:
    import pytest

    from granary.warehouse.settings import Settings


def test_the_parts_are_what_the_home_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    with own_server(monkeypatch) as settings:
        with connect(settings, autocommit=True) as connection:
            execute(connection, "create schema raw_shop")
            execute(
                connection, "create table raw_shop.orders as select n, repeat('x', 90) from generate_series(1, 9000) n"
            )
            execute(connection, "create index on raw_shop.orders (n)")
            execute(connection, "checkpoint")
            heap, index = query(
                connection, "select pg_table_size('raw_shop.orders'), pg_indexes_size('raw_shop.orders')"
            )[0]
        (settings.home / "landing").mkdir()
        (settings.home / "landing" / "monday.csv").write_bytes(b"x" * 123_456)
        dbt = settings.home / "dagster" / "dbt"
        dbt.mkdir(parents=True)
        (dbt / "manifest.json").write_bytes(b"x" * 1_000)
        (settings.home / "dagster" / "run.log").write_bytes(b"x" * 77)
        found = storage.look(settings)
        parts = {part.what: part for part in found.parts}
        assert (parts["schema raw"].tables, parts["schema raw"].indexes) == (heap, index)
        assert parts["landing/"].bytes == 123_456
        assert parts["dbt's artifacts (dagster/dbt)"].bytes == 1_000
        assert parts["Dagster's files (dagster/)"].bytes == 77
        assert parts["write-ahead log"].bytes % (16 * 1024 * 1024) == 0
        assert parts["write-ahead log"].bytes > 0
        there = sum(path.lstat().st_size for path in settings.home.rglob("*") if path.is_file())
        assert abs(found.total - there) < 200_000  # files that are being written, and marks of a few bytes
        said = json.loads(granary(settings, "status", "--storage", "--json").stdout)
        assert said["total"] == sum(part["bytes"] for part in said["parts"])
        assert {
            "what": "landing/",
            "tables": 0,
            "indexes": 0,
            "files": 123_456,
            "held": False,
            "bytes": 123_456,
        } in said["parts"]


def test_the_log_of_a_large_load_is_given_back_at_the_next_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    with own_server(monkeypatch) as settings, connect(settings, autocommit=True) as connection:
        execute(connection, "create table public.orders (n int, note text)")
        for _ in range(2):
            execute(
                connection, "insert into public.orders select n, repeat('x', 500) from generate_series(1, 200000) n"
            )
            execute(connection, "checkpoint")
        # Each wrote 120 MB. Kept for the next one, they would be eight files.
        assert query(connection, "select count(*) <= 3 from pg_ls_waldir()") == [(True,)]


def test_a_login_without_pg_monitor_is_told_what_is_left_out(
    warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_loader(settings: Settings, *, autocommit: bool) -> object:
        return connect(settings, role="loader", autocommit=autocommit)

    monkeypatch.setattr(storage, "connect", as_loader)
    with connect(warehouse, "postgres", autocommit=True) as connection:
        closed = f"{warehouse.database}_closed"
        execute(connection, f"create database {closed}")
        execute(connection, f"revoke connect on database {closed} from public")
        try:
            found = storage.look(warehouse)
        finally:
            execute(connection, f"drop database {closed}")
    assert f"other database ({closed}): this login may not enter it" in found.left_out
    assert "the write-ahead log: this login is not in pg_monitor" in found.left_out
    assert "schema ops" in {part.what for part in found.parts}
