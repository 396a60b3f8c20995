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
        "alias": name, "source": None, "materialized": "table", "blocks": kind == "test", "grain": None,
        "partition": [], "columns": {}, "grants": {}, "meta": {},
    } | more  # fmt: skip


def document(*nodes: dict[str, Any], **more: Any) -> str:
    return json.dumps(
        {
            "schema": "marts", "personal": "personal", "build": "build", "invocation": "now", "erasing": False,
            "command": "build", "empty": False, "despite": [],
            "selected": [one["id"] for one in nodes], "tiers": ["identifier", "pseudonym"],
            "subjects": ["rider"], "nodes": nodes, "results": None,
        }
        | more
    )  # fmt: skip


def result(one: dict[str, Any], status: str) -> dict[str, Any]:
    return {"id": one["id"], "name": one["name"], "status": status, "rows": None}


RIDES, BIKES = node("rides"), node("bikes")
TOLD = node("bikes_are_few", "test", blocks=False)
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
    query(connection, "select ops.end_run($1)", document(RIDES | {"schema": "build"}))
    assert query(connection, HOLDS) == [("model.rides.rides", "failed", "x")]
    assert query(connection, "select mart from ops.unpublished") == [("rides",)]


def test_what_waits_for_a_source_that_never_delivered_holds_nothing(connection: Connection) -> None:
    """Of two models of such a source one has rows; and what reads only a source that delivers does hold."""
    silent = node("trips", "source", schema="raw_app", source="app")
    empty, filled, view = (node(name, parents=(silent["id"],)) for name in ("empty", "filled", "view"))
    mart = node("mart", parents=(view["id"],), schema="build")
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
            r"rides.name: there is no tier of personal data secret; write one of identifier, pseudonym"
            r" \(`granary guide access`\)",
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


def test_a_model_that_overwrites_partitions_has_a_key(connection: Connection) -> None:
    """And what says that its key is missing does not say so of models that overwrite none."""
    without = node("rides", grain=[], partition=["day"])
    query(connection, "select ops.start_run($1)", document(BIKES, node("rides", grain=["ride"], partition=["day"])))
    with pytest.raises(
        psycopg.errors.RaiseException,
        match=r"^rides overwrites partitions and has no unique key, by which rows are compared: declare a unique index",
    ):
        query(connection, "select ops.start_run($1)", document(BIKES, without))


def audit(*tests: dict[str, Any], **more: Any) -> str:
    """Return what dbt says of an audit of rides."""
    defaults = {"of_load": None, "fail_calc": "count(*)", "error_if": "!= 0"}
    described = {"model": "build.rides", "schema": "marts", "scope": "all", "invocation": "now"}
    return json.dumps(described | {"tests": [defaults | test for test in tests]} | more)


@pytest.fixture
def rides(ready: Settings) -> Iterator[Connection]:
    """Return a warehouse with rides of four loads, of which three have rides without a bike."""
    with connect(ready) as connection:
        for statement in (
            LOADED.replace("'a', 'a'", "'monday.csv', 'a'"),
            "set local role transformer",
            "create schema build",
            "create table build.rides (ride, bike, load_id)"
            " as values (1, 1, 1), (2, null, 2), (3, null, 3), (4, null, 5)",
        ):
            execute(connection, statement)
        yield connection
        connection.rollback()


HAS_BIKE = {
    "name": "has_bike",
    "query": "select * from build.rides where bike is null",
    "of_load": "select * from (select * from build.rides where load_id = $1) dbt_subquery where bike is null",
}
ROWS = {"name": "has_rows", "query": "select 1 from build.rides having count(*) = 0"}
AUDITS = "select test, model, scope, failures, invocation_id from ops.model_audits order by test"


def test_an_audit_that_passes_is_recorded(rides: Connection) -> None:
    """A test may let some rows fail, and may count something else than rows, which may be nothing."""
    execute(rides, "set local enable_hashagg = off")
    some = HAS_BIKE | {"error_if": "> 3"}
    newest = {"name": "newest", "query": "select null::int as n", "fail_calc": "max(n)"}
    assert query(rides, "select ops.audit($1)", audit(ROWS, some, newest, scope="new")) == [(None,)]
    assert query(rides, AUDITS) == [
        ("has_bike", "build.rides", "new", 3, "now"),
        ("has_rows", "build.rides", "new", 0, "now"),
        ("newest", "build.rides", "new", 0, "now"),
    ]
    assert query(rides, "show enable_hashagg") == [("off",)]


def test_an_audit_that_fails_says_of_which_loads_the_rows_are(rides: Connection) -> None:
    """The newest three at most, and the first test that fails; nothing is recorded."""
    also = {"name": "one_ride", "query": "select * from build.rides where ride > 1"}
    assert query(rides, "select ops.audit($1)", audit(ROWS, HAS_BIKE, also)) == [
        (
            "audit: has_bike: 3 rows failed in marts.rides; nothing was published."
            " They are of d (load 5), c (load 3), b (load 2).",
        )
    ]
    execute(rides, "update build.rides set bike = null where load_id = 1")
    assert query(rides, "select ops.audit($1)", audit(HAS_BIKE)) == [
        (
            "audit: has_bike: 4 rows failed in marts.rides; nothing was published."
            " They are of d (load 5), c (load 3), b (load 2).",
        )
    ]
    execute(rides, "update build.rides set bike = 1 where load_id > 1")
    assert query(rides, "select ops.audit($1)", audit(HAS_BIKE)) == [
        ("audit: has_bike: 1 rows failed in marts.rides; nothing was published. They are of monday.csv (load 1).",)
    ]
    assert query(rides, "select ops.audit($1)", audit(HAS_BIKE | {"of_load": None})) == [
        ("audit: has_bike: 1 rows failed in marts.rides; nothing was published.",)
    ]
    assert query(rides, AUDITS) == []


@pytest.mark.parametrize(
    ("versions", "waits", "of_a_mart", "of_another"),
    [
        ([], False, False, False),
        ([False], False, True, True),
        ([True, False], True, True, True),
        ([False, True], False, True, False),  # all of it, and published
        ([False, True], True, False, False),
    ],
)
def test_tests_look_at_the_latest_publish_unless_it_was_all(
    connection: Connection, versions: list[bool], waits: bool, of_a_mart: bool, of_another: bool
) -> None:
    for is_whole in versions:
        query(
            connection,
            "insert into ops.model_versions (model, is_whole, rows_inserted, rows_deleted, invocation_id)"
            " values ('build.rides', $1, 1, 0, 'x') returning 1",
            is_whole,
        )
    partition = "null" if waits else "'2021-01-05'"
    execute(
        connection,
        "insert into ops.unpublished (schema_name, mart, partition, invocation_id)"
        f" values ('marts', 'rides', {partition}, 'x'), ('dev_marts', 'rides', null, 'x')",
    )
    asked = "select ops.is_tested_by_partition('build.rides', 'marts', true), "
    asked += "ops.is_tested_by_partition('build.rides', 'marts', false)"
    assert query(connection, asked) == [(of_a_mart, of_another)]


def test_loads_and_erasures_that_took_rows_are_told_of_once_each(ready: Settings) -> None:
    with connect(ready) as connection:
        execute(connection, LOADED)
        execute(
            connection,
            "insert into ops.erasures (subject, key_mark, reason) values ('x', 'x', 'asked')",
        )
        execute(
            connection,
            "insert into ops.erased_rows (erasure_id, load_id, source, table_name, erased_load_id, row_count)"
            " select erasure_id, 9, 'app', 'trips', 3, 1 from ops.erasures",
        )
        assert query(connection, "select * from ops.rows_gone order by load_id") == [
            ("app", 2, 1, "replaced", None),
            ("app", 9, 3, "erased", 1),
        ]
        connection.rollback()


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
