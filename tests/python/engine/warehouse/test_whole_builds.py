"""What the last whole build of the project saw, by source, and what tests of raw tables need not look at again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from granary.dbt import last_build
from granary.warehouse.connection import connect, execute, query

if TYPE_CHECKING:
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

EMPTY = "truncate ops.load_audit, ops.whole_builds, ops.model_watermarks cascade"


@pytest.fixture(scope="module")
def place(make_warehouse: Any) -> Settings:
    settings: Settings = make_warehouse("whole_builds")
    return settings


@pytest.fixture
def ready(place: Settings) -> Settings:
    with connect(place) as connection:
        execute(connection, EMPTY)
        connection.commit()
    return place


def landed(connection: Connection, source: str, load_id: int, rows: int = 1) -> None:
    execute(
        connection,
        "insert into ops.load_audit (load_id, run_id, source, table_name, unit, fingerprint, status, rows_read,"
        " rows_loaded, rows_quarantined, rows_deleted, bytes, seconds, started_at)"
        " values ($1, 'r', $2, 'trips', $1::text, $1::text, 'loaded', $3, $3, 0, 0, 1, 1, now())",
        load_id,
        source,
        rows,
    )
    connection.commit()


def test_a_load_that_is_committed_after_later_ones_of_another_source_is_seen(ready: Settings) -> None:
    with connect(ready) as connection:
        landed(connection, "app", 5)
        landed(connection, "hire", 8)
        built = last_build.state(ready, "project")
        assert json.loads(built.loads) == {"app": 5, "hire": 8}
        last_build.keep(ready, built)
        execute(connection, "truncate ops.publish_holds, ops.unpublished, ops.builds")
        connection.commit()
        assert last_build.is_of(ready, last_build.state(ready, "project"))
        landed(connection, "app", 7)  # it has begun before load 8 did
        now = last_build.state(ready, "project")
        assert json.loads(now.loads) == {"app": 7, "hire": 8}
        assert not last_build.is_of(ready, now)
        assert not last_build.is_of(ready, last_build.State("another project", built.loads))


def test_raw_rows_that_a_whole_build_has_tested_are_not_looked_at_again(ready: Settings) -> None:
    seen = (
        "select ops.load_seen_before('app'), ops.load_seen_before('app', 'build.rides'), ops.load_seen_before('hire')"
    )
    with connect(ready) as connection:
        assert query(connection, seen) == [(0, 0, 0)]
        execute(
            connection,
            "insert into ops.model_watermarks (model, source, previous_load_id, load_id)"
            " values ('build.rides', 'app', 0, 6), ('build.trips', 'app', 2, 6)",
        )
        assert query(connection, seen) == [(0, 0, 0)], "after a first build alone a model had seen nothing before"
        execute(
            connection,
            "insert into ops.whole_builds (fingerprint, publish_id, loads) values ('project', 1, '{\"app\": 6}')",
        )
        # A test of a model asks what the model had seen before its own build: of all of it, if that was built anew.
        assert query(connection, seen) == [(6, 0, 0)]
        execute(connection, "update ops.model_watermarks set previous_load_id = 6, load_id = 9")
        assert query(connection, seen) == [(6, 6, 0)]
        execute(connection, "update ops.model_watermarks set previous_load_id = 7")
        assert query(connection, seen) == [(7, 7, 0)]
        connection.rollback()


def test_of_loads_that_a_whole_build_has_counted_only_the_presence_is_looked_at(ready: Settings) -> None:
    tables = [{"source": "app", "table": "trips", "relation": "raw_whole.trips", "model": "build.rides"}]
    differences = "select load_id, ledger_count, raw_count from ops.ledger_differences($1, 0) order by load_id"
    with connect(ready) as connection:
        for load_id, rows in ((1, 2), (2, 2), (3, 2)):
            landed(connection, "app", load_id, rows)
        execute(connection, "create schema raw_whole")
        execute(connection, "create table raw_whole.trips as select unnest(array[1, 2, 3, 3, 3])::bigint as _load_id")
        execute(
            connection,
            "insert into ops.model_watermarks (model, source, previous_load_id, load_id)"
            " values ('build.rides', 'app', 0, 2)",
        )
        every = [(1, 2, 1), (2, 2, 1), (3, 2, 3)]
        assert query(connection, differences, json.dumps(tables)) == every
        execute(
            connection,
            "insert into ops.whole_builds (fingerprint, publish_id, loads) values ('project', 1, '{\"app\": 2}')",
        )
        assert query(connection, differences, json.dumps(tables)) == every[2:]
        execute(connection, "delete from raw_whole.trips where _load_id = 1")
        assert query(connection, differences, json.dumps(tables)) == [(1, 2, 0), *every[2:]]
        connection.rollback()
