"""The functions by which models overwrite what changed and hand it on, called as dbt calls them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from granary.warehouse.connection import connect, execute, query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

RIDES, STATIONS = "built.rides", "built.stations"


class Models:
    """Rides by day, and stations with how many rides began there: `built.stations` reads `built.rides`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.by = "station"
        self.code = "v1"
        self.asked: str | None = None

    def run(self, *statements: str) -> None:
        for statement in statements:
            execute(self.connection, statement)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return query(self.connection, sql)

    def document(self, model: str, state: str = "") -> str:
        rides = model == RIDES
        return json.dumps(
            {
                "model": model,
                "grain": ["ride"] if rides else ["station"],
                "partition": ["day"] if rides else ["station"],
                "fingerprint": self.code,
                "invocation": "x",
                "inputs": None if rides else {RIDES: self.by},
                "log": None,
                "asked": self.asked,
                "state": state,
            }
        )

    def state(self, model: str = STATIONS) -> str:
        return str(query(self.connection, "select ops.increment_state($1)", self.document(model))[0][0])

    def build(self, model: str, select: str) -> str:
        """Build a model from a query, in which {changed} stands for its condition; return what had to be done."""
        state = self.state(model)
        if state == "rebuild":
            self.run(f"truncate {model}", f"insert into {model} {select.format(changed='true')}")
            query(self.connection, "select ops.note_rebuild($1, $2)", self.document(model), model)
        else:
            changed = {"all": "true", "none": "false", "some": "station = any(array(table granary_partitions))"}[state]
            if state == "some":
                query(self.connection, "select ops.find_partitions($1)", self.document(model))
            self.run(f"create temporary table computed on commit drop as {select.format(changed=changed)}")
            query(self.connection, "select ops.write_increment($1, 'computed')", self.document(model, state))
        self.connection.commit()
        return state

    def ride(self, *rows: tuple[int, int, str]) -> str:
        """Build the rides: (ride, day, station)."""
        values = ", ".join(f"({ride}, {day}, '{station}')" for ride, day, station in rows) or "(0, 0, '')"
        where = "" if rows else " where false"
        return self.build(RIDES, f"select * from (values {values}) as v (ride, day, station){where}")

    def count(self) -> str:
        return self.build(
            STATIONS, f"select station, count(*)::int as rides from {RIDES} where {{changed}} group by station"
        )

    def prune(self, erasing: bool = False) -> None:
        nodes = [
            {"schema": "built", "alias": name, "kind": "model", "partition": ["x"]} for name in ("rides", "stations")
        ]
        document = {"nodes": nodes, "erasing": erasing}
        query(self.connection, "select ops.prune_deltas($1)", json.dumps(document))


@pytest.fixture
def models(warehouse: Settings) -> Iterator[Models]:
    """Return both models, built once: rides 1 and 2 of day 1, 3 of day 2."""
    with connect(warehouse, role="transformer") as connection:
        made = Models(connection)
        made.run(
            "create schema built",
            f"create table {RIDES} (ride int not null, day int not null, station text)",
            f"create table {STATIONS} (station text not null, rides int)",
        )
        assert made.ride((1, 1, "Dock"), (2, 1, "Park"), (3, 2, "Dock")) == "rebuild"
        assert made.count() == "rebuild"
        yield made


def counts(models: Models) -> dict[str, int]:
    return dict(models.rows(f"select station, rides from {STATIONS}"))


def test_only_partitions_that_changed_are_overwritten_by_difference(models: Models) -> None:
    before = dict(models.rows(f"select station, xmin::text from {STATIONS}"))
    assert models.ride((1, 1, "Dock"), (2, 1, "Park"), (3, 2, "Dock"), (4, 2, "Dock")) == "all"
    assert models.rows(f"select sign, ride, station from {RIDES}__delta") == [(1, 4, "Dock")]
    assert models.count() == "some"
    assert counts(models) == {"Dock": 3, "Park": 1}
    after = dict(models.rows(f"select station, xmin::text from {STATIONS}"))
    assert (after["Park"] == before["Park"], after["Dock"] == before["Dock"]) == (True, False)
    assert models.rows(f"select sign, station, rides from {STATIONS}__delta order by 1") == [
        (-1, "Dock", 2),
        (1, "Dock", 3),
    ]


def test_a_partition_that_became_empty_goes_and_a_row_that_moved_counts_in_both(models: Models) -> None:
    models.ride((1, 1, "Dock"), (2, 1, "Pier"), (3, 2, "Dock"))
    assert models.rows(f"select sign, station from {RIDES}__delta order by 1") == [(-1, "Park"), (1, "Pier")]
    models.count()
    assert counts(models) == {"Dock": 2, "Pier": 1}


def test_nothing_is_done_where_nothing_changed(models: Models) -> None:
    versions = "select count(*) from ops.model_versions"
    before = models.rows(versions)
    assert models.ride((1, 1, "Dock"), (2, 1, "Park"), (3, 2, "Dock")) == "all"
    assert models.count() == "none"
    assert models.rows(versions) == before


def test_a_change_that_was_not_taken_in_waits_for_its_reader(models: Models) -> None:
    models.ride((1, 1, "Dock"), (2, 1, "Park"))
    models.prune()
    models.ride((2, 1, "Park"))
    models.prune()
    assert models.count() == "some"
    assert counts(models) == {"Park": 1}
    models.prune()
    assert models.rows(f"select count(*) from {RIDES}__delta") == [(0,)]


@pytest.mark.parametrize(
    ("by", "state"),
    [
        ("station", "some"),
        ("select station from changes", "some"),
        ("with came as (select station from changes where sign > 0) select station from came", "some"),
        ("all", "all"),
        ("never", "none"),
        ("rebuild", "rebuild"),
        ("rebuild if sign < 0", "none"),
        ("rebuild if sign > 0", "rebuild"),
    ],
)
def test_what_a_change_means_is_declared(models: Models, by: str, state: str) -> None:
    models.by = by
    models.ride((1, 1, "Dock"), (2, 1, "Park"), (3, 2, "Dock"), (4, 2, "Pier"))
    assert models.count() == state
    assert counts(models) == {"Dock": 2, "Park": 1} | ({} if state == "none" else {"Pier": 1})


def test_a_project_that_dbt_does_not_have_build_anew_compares_all(models: Models) -> None:
    """Its macros are those of before: what is asked to be a rebuild is computed whole and written by difference."""
    models.run(f"drop table {STATIONS}__delta", f"insert into {STATIONS} values ('Gone', 9)")
    models.run(f"create temporary table computed on commit drop as select * from {STATIONS} where station <> 'Gone'")
    query(models.connection, "select ops.write_increment($1, 'computed')", models.document(STATIONS, "rebuild"))
    models.connection.commit()
    assert counts(models) == {"Dock": 2, "Park": 1}
    assert models.rows(f"select sign, station from {STATIONS}__delta") == [(-1, "Gone")]


def test_rows_that_differ_where_nothing_changed_make_readers_start_anew(models: Models) -> None:
    """Somebody changed the stations; then they are asked for. What differs is no change that a reader could add up."""
    models.run(f"update {STATIONS} set rides = 9 where station = 'Dock'")
    models.asked = "select 'Dock' as station"
    assert models.count() == "some"
    assert counts(models) == {"Dock": 2, "Park": 1}
    assert models.rows(f"select is_whole from ops.model_versions where model = '{STATIONS}' order by version") == [
        (True,),
        (True,),
    ]


def test_other_code_or_an_input_built_anew_means_a_rebuild(models: Models) -> None:
    models.code = "v2"
    assert models.state(RIDES) == models.state() == "rebuild"
    models.ride((9, 1, "Hill"))
    models.code = "v1"
    assert models.count() == "rebuild"
    assert counts(models) == {"Hill": 1}


def test_a_build_that_is_rolled_back_has_taken_nothing_in(models: Models) -> None:
    models.ride((1, 1, "Dock"))
    document = models.document(STATIONS, "some")
    query(models.connection, "select ops.find_partitions($1)", document)
    models.run("create temporary table computed on commit drop as select 'x' as station, 1 as rides where false")
    query(models.connection, "select ops.write_increment($1, 'computed')", document)
    models.connection.rollback()
    assert models.count() == "some"
    assert counts(models) == {"Dock": 1}


def test_after_an_erasure_no_difference_is_kept_and_who_has_not_read_it_starts_anew(models: Models) -> None:
    models.ride((1, 1, "Dock"))
    models.prune(erasing=True)
    assert models.rows(f"select count(*) from {RIDES}__delta") == [(0,)]
    assert models.count() == "rebuild"
    assert counts(models) == {"Dock": 1}


RIDE = st.dictionaries(st.integers(1, 6), st.tuples(st.integers(1, 3), st.sampled_from("ABC")), max_size=6)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(st.tuples(RIDE, st.booleans(), st.booleans()), max_size=5))
def test_increments_equal_a_full_build_over_any_history(
    models: Models, history: list[tuple[dict[int, tuple[int, str]], bool, bool]]
) -> None:
    """Each step: what the rides are now, whether the stations are built then, and whether differences are pruned."""
    for rides, is_counted, is_pruned in [*history, ({1: (1, "A")}, True, True)]:
        models.ride(*((ride, day, station) for ride, (day, station) in rides.items()))
        if is_counted:
            models.count()
            expected: dict[str, int] = {}
            for _, station in rides.values():
                expected[station] = expected.get(station, 0) + 1
            assert counts(models) == expected
        if is_pruned:
            models.prune()


def test_an_empty_table_is_not_read_once_for_each_row_that_it_gets(models: Models) -> None:
    models.run(f"truncate {RIDES}", f"analyze {RIDES}")
    models.connection.commit()
    scans = f"select seq_scan::int from pg_stat_xact_user_tables where relid = '{RIDES}'::regclass"
    computed = "select n as ride, 1 as day, 'Dock' as station from generate_series(1, 2000) as n"
    models.run(f"create temporary table computed on commit drop as {computed}")
    ((before,),) = models.rows(scans)
    query(models.connection, "select ops.write_increment($1, 'computed')", models.document(RIDES, "all"))
    ((after,),) = models.rows(scans)
    assert after - before < 10
    assert models.rows(f"select count(*) from {RIDES}") == [(2000,)]
    assert models.rows("show enable_nestloop") == [("on",)]
