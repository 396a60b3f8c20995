"""What runs of dbt call when they start and end, and their tests of raw tables, called with made projects."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from granary.warehouse.connection import connect, execute, query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

HOLDS = "select node, reason, invocation_id from ops.publish_holds order by node"


@pytest.fixture(scope="module")
def ready(make_warehouse: Any) -> Settings:
    """Return a warehouse that this module's tests leave as they found it."""
    settings: Settings = make_warehouse("runs")
    return settings


@pytest.fixture
def connection(ready: Settings) -> Iterator[Connection]:
    with connect(ready, role="transformer") as opened:
        yield opened
        opened.rollback()


def node(name: str, kind: str = "model", parents: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    return {
        "id": f"{kind}.rides.{name}", "name": name, "kind": kind, "parents": list(parents), "schema": "staging",
        "alias": name, "source": None, "is_mart": False, "holds": kind != "source", "columns": {},
    } | more  # fmt: skip


def document(*nodes: dict[str, Any], **more: Any) -> str:
    return json.dumps(
        {
            "schema": "marts", "personal": "personal", "build": "build", "invocation": "now", "erasing": False,
            "schemas": ["build"], "marts": [], "command": "build", "empty": False, "despite": [],
            "selected": [one["id"] for one in nodes], "tiers": ["identifier", "pseudonym"],
            "subjects": ["rider"], "nodes": nodes, "results": None,
        }
        | more
    )  # fmt: skip


def result(one: dict[str, Any], status: str) -> dict[str, Any]:
    return {"id": one["id"], "name": one["name"], "status": status, "rows": None}


RIDES, BIKES = node("rides"), node("bikes")
TOLD = node("bikes_are_few", "test", holds=False)
GRAIN = node("rides_grain", "test", (RIDES["id"],))


def test_what_a_run_selects_holds_until_it_has_succeeded(connection: Connection) -> None:
    nodes = (RIDES, BIKES, TOLD, GRAIN)
    query(connection, "select ops.start_run($1)", document(*nodes, selected=[RIDES["id"], TOLD["id"], GRAIN["id"]]))
    begun = "has not finished"
    assert query(connection, HOLDS) == [("model.rides.rides", begun, "now"), ("test.rides.rides_grain", begun, "now")]
    ended = [result(RIDES, "success"), result(GRAIN, "fail"), result(TOLD, "warn"), result(BIKES, "skipped")]
    query(connection, "select ops.end_run($1)", document(*nodes, results=ended))
    assert query(connection, HOLDS) == [
        ("model.rides.bikes", "was skipped", "now"),
        ("test.rides.rides_grain", "failed", "now"),
    ]
    assert query(connection, "select command, failures, warnings from ops.builds") == [
        (
            "build",
            [
                {"node": "rides_grain", "status": "fail", "rows": None},
                {"node": "bikes", "status": "skipped", "rows": None},
            ],
            [{"node": "bikes_are_few", "status": "warn", "rows": None}],
        )
    ]


def test_a_run_settles_its_own_holds_and_those_that_another_left_and_no_others(connection: Connection) -> None:
    execute(
        connection,
        "insert into ops.publish_holds (schema_name, node, reason, invocation_id) values"
        " ('marts', 'model.rides.rides', 'has not finished', 'other'),"
        " ('marts', 'model.rides.bikes', 'failed', 'earlier'),"
        " ('dev_marts', 'model.rides.bikes', 'failed', 'earlier')",
    )
    ended = [result(RIDES, "success"), result(BIKES, "success")]
    query(connection, "select ops.end_run($1)", document(RIDES, BIKES, results=ended, empty=True))
    assert len(query(connection, HOLDS)) == 3
    query(connection, "select ops.end_run($1)", document(RIDES, BIKES, results=ended))
    left = [("model.rides.bikes", "failed", "earlier"), ("model.rides.rides", "has not finished", "other")]
    assert query(connection, HOLDS) == left
    ended = [result(RIDES, "error")]
    query(connection, "select ops.end_run($1)", document(RIDES, BIKES, results=ended))
    assert query(connection, HOLDS) == left  # another run is at it
    query(connection, "select ops.end_run($1)", document(RIDES, BIKES, results=ended, command="test"))
    assert query(connection, HOLDS)[1] == ("model.rides.rides", "failed", "now")


def test_what_the_project_does_not_have_holds_nothing_and_what_was_renamed_does(connection: Connection) -> None:
    execute(
        connection,
        "insert into ops.publish_holds (schema_name, node, reason, invocation_id) values"
        " ('marts', 'model.once.rides', 'failed', 'x'), ('marts', 'model.rides.gone', 'failed', 'x')",
    )
    execute(
        connection,
        "insert into ops.unpublished (schema_name, mart, invocation_id)"
        " values ('marts', 'gone', 'x'), ('marts', 'rides', 'x')",
    )
    query(connection, "select ops.end_run($1)", document(RIDES, marts=[{"name": "rides"}]))
    assert query(connection, HOLDS) == [("model.rides.rides", "failed", "x")]
    assert query(connection, "select mart from ops.unpublished") == [("rides",)]


def test_what_waits_for_a_source_that_never_delivered_holds_nothing(connection: Connection) -> None:
    """Of two models of such a source one has rows; and what reads only a source that delivers does hold."""
    silent = node("trips", "source", schema="raw_app", source="app")
    empty, filled, view = (node(name, parents=(silent["id"],)) for name in ("empty", "filled", "view"))
    mart = node("mart", parents=(view["id"],), schema="build", is_mart=True)
    test = node("mart_grain", "test", (mart["id"],))
    nodes = (silent, empty, filled, view, mart, test, RIDES)
    execute(connection, "create schema staging")
    execute(connection, "create table staging.empty (n integer)")
    execute(connection, "create table staging.filled as select 1 as n")
    query(connection, "select ops.start_run($1)", document(*nodes))
    words = query(connection, "select ops.holds($1)", document(*nodes))[0][0]
    assert words.startswith(
        "nothing was published; marts stays as it was: filled has not finished, rides has not finished. Fix it"
    )
    assert "{despite: [filled, rides]}" in words
    assert query(connection, "select node from ops.publish_holds where reason = 'has never had data' order by 1") == [
        (one["id"],) for one in (empty, mart, view, test)
    ]
    assert query(connection, "select ops.holds($1)", document(*nodes, despite=["filled", "rides"])) == [(None,)]


def test_a_run_that_failed_only_says_what_holds(connection: Connection) -> None:
    nodes = [node(f"n{number}") for number in range(7)]
    failed = [result(one, "error") for one in nodes]
    execute(connection, "insert into ops.unpublished (schema_name, mart, invocation_id) values ('marts', 'n0', 'now')")
    query(connection, "select ops.settle_holds($1)", document(*nodes, results=failed))
    warned = query(connection, "select ops.prepare_publish($1)", document(*nodes, results=failed))[0][0]
    assert list(warned) == ["warnings"]
    assert "n3 failed, n4 failed and 2 more. Fix it" in warned["warnings"][0]
    assert "{despite: [NAME, ...]}" in warned["warnings"][0]
    for results in ([], None):
        refused = query(connection, "select ops.prepare_publish($1)", document(*nodes, results=results))[0][0]
        assert refused == {"error": warned["warnings"][0]}
    assert query(
        connection, "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
    ) == [(0,)]


SOURCE = {"rider": {"personal": "pseudonym", "subject": "rider"}, "name": {"personal": "identifier"}}
KEPT: dict[str, Any] = {"rider": {"personal": "pseudonym", "subject": "rider"}, "name": {"not_personal": True}}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (KEPT, None),
        ({"other": {}}, None),
        (
            KEPT | {"name": {"personal": "secret"}},
            r"rides.name: there is no tier of personal data secret; write one of identifier, pseudonym \(docs",
        ),
        (
            KEPT | {"name": {"not_personal": False}},
            r"rides.name comes from trips, where it is personal \(identifier\): give it config.meta.personal, or",
        ),
        (
            KEPT | {"rider": {"personal": "pseudonym", "subject": None}},
            "rides.rider comes from trips, where its subject is rider: give it the same config.meta.subject",
        ),
        (
            KEPT | {"name": {"personal": "identifier", "subject": "rider"}},
            "rides.name comes from trips, where its subject is nobody: give it the same config.meta.subject",
        ),
        (
            KEPT | {"rider": {"personal": "pseudonym", "subject": "ridder"}},
            r"rides.rider: there is no data subject ridder in dbt_project.yml \(vars: data_subjects\); .*has rider",
        ),
        (
            KEPT | {"rider": {"personal": "pseudonym", "subject": ["rider"]}},
            r'rides.rider: a column holds keys of one data subject, and not of \["rider"\]\.',
        ),
    ],
)
def test_a_run_stops_where_personal_data_would_lose_its_tier(
    connection: Connection, columns: dict[str, Any], message: str | None
) -> None:
    source = node("trips", "source", columns=SOURCE)
    doc = document(source, node("rides", parents=(source["id"],), columns=columns))
    if message is None:
        query(connection, "select ops.start_run($1)", doc)
        return
    with pytest.raises(psycopg.errors.RaiseException, match=message):
        query(connection, "select ops.start_run($1)", doc)


def test_a_column_that_is_a_key_of_two_subjects_stops_a_run(connection: Connection) -> None:
    one, two = (
        node(name, "source", columns={"id": {"personal": "pseudonym", "subject": name}}) for name in ("rider", "driver")
    )
    child = node("rides", parents=(one["id"], two["id"]), columns={"id": {"personal": "pseudonym", "subject": "rider"}})
    with pytest.raises(
        psycopg.errors.RaiseException,
        match=r"rides.id comes from models where it is a key of rider and of driver: give each a column of its own\.",
    ):
        query(connection, "select ops.start_run($1)", document(one, two, child, subjects=["rider", "driver"]))


LOADED = """
    insert into ops.load_audit (load_id, run_id, source, table_name, unit, fingerprint, status, superseded_by,
        rows_read, rows_loaded, rows_quarantined, rows_deleted, bytes, seconds, started_at)
    values (1, 'r', 'app', 'trips', 'a', 'a', 'loaded', 2, 3, 3, 0, 0, 1, 1, now()),
        (2, 'r', 'app', 'trips', 'b', 'b', 'loaded', null, 2, 2, 0, 0, 1, 1, now()),
        (3, 'r', 'app', 'trips', 'c', 'c', 'loaded', null, 1, 1, 0, 0, 1, 1, now()),
        (5, 'r', 'app', 'trips', 'd', 'd', 'loaded', null, 4, 4, 0, 0, 1, 1, now())
"""


@pytest.mark.parametrize(
    ("keyed", "model", "counted_bytes", "found"),
    [
        (False, None, 0, {(2, 2, 1), (3, 1, None), (4, None, 2), (5, 4, 5), (1, None, 1)}),
        (False, "build.rides", 1_000_000, {(2, 2, 1), (3, 1, None), (4, None, 2), (5, 4, 5), (1, None, 1)}),
        (
            False,
            "build.rides",
            0,
            {(3, 1, 0), (4, None, 2), (5, 4, 5)},
        ),  # of those up to 3, whether there is a row
        (True, None, 0, {(4, None, 2), (5, 4, 5)}),
        (True, "build.rides", 0, {(4, None, 2), (5, 4, 5)}),
    ],
)
def test_raw_rows_are_compared_with_the_ledger(
    ready: Settings, keyed: bool, model: str | None, counted_bytes: int, found: set[tuple[int, int | None, int | None]]
) -> None:
    with connect(ready) as connection:
        execute(connection, LOADED)
        execute(connection, "create schema raw_app")
        execute(
            connection,
            "create table raw_app.trips as select unnest(array[1, 2, 4, 4, 5, 5, 5, 5, 5])::bigint as _load_id",
        )
        execute(connection, "insert into ops.model_watermarks values ('build.rides', 'app', 3, 5)")
        tables = [{"source": "app", "table": "trips", "relation": "raw_app.trips", "model": model, "keyed": keyed}]
        sql = "select load_id, ledger_count, raw_count from ops.ledger_differences($1, $2)"
        assert set(query(connection, sql, json.dumps(tables), counted_bytes)) == found
        connection.rollback()
