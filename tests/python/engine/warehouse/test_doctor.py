"""What is planted in a warehouse is what `granary doctor` finds: what, where, how large, and the next command."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from granary.warehouse import doctor
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.server import tuning
from granary.warehouse.steps import Step, keep
from tests.python.conftest import QUICK
from tests.python.support.command import granary

if TYPE_CHECKING:
    from granary.warehouse.doctor import Finding
    from granary.warehouse.settings import Settings

SMALL = doctor.Limits(scanned_bytes=1_000_000, bloat_bytes=1_000_000, index_bytes=100_000, scans=10)
"""Limits under which a table of some megabytes counts; the command has larger ones."""
ROWS = 40_000


@pytest.fixture(autouse=True)
def as_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expect of the tests' server what it was started with."""
    monkeypatch.setattr(doctor, "tuning", lambda folder: tuning(folder) | QUICK)


@pytest.fixture
def table(warehouse: Settings) -> str:
    """Return a table of 40,000 rows of some 100 bytes, which autovacuum leaves alone."""
    run(
        warehouse,
        "create table public.visits (visit_id int, shop_id int, note text) with (autovacuum_enabled = off)",
        f"insert into public.visits select n, n % 100, repeat('x', 80) from generate_series(1, {ROWS}) as n",
        "analyze public.visits",
    )
    return "visits"


def run(settings: Settings, *statements: str) -> None:
    """Run statements, each in a transaction of its own, and have the server count them at once."""
    with connect(settings, autocommit=True) as connection:
        flushes = int(query(connection, "show server_version_num")[0][0]) >= 150_000
        for statement in statements:
            if flushes:
                query(connection, "select pg_stat_force_next_flush()")
            execute(connection, statement)


def found(settings: Settings, what: str, limits: doctor.Limits = SMALL) -> list[Finding]:
    return [one for one in doctor.examine(settings, limits).findings if one.what == what]


def test_a_warehouse_that_is_fine_has_no_problem(warehouse: Settings, table: str) -> None:
    report = doctor.examine(warehouse, replace(SMALL, free_share=0))
    assert [one for one in report.findings if one.where.endswith(table)] == []
    assert report.well


def test_an_index_that_nobody_reads_is_told_with_its_size(warehouse: Settings, table: str) -> None:
    run(warehouse, "create index visits_shop on public.visits (shop_id)", "select count(*) from public.visits")
    (one,) = found(warehouse, "unused index")
    assert (one.where, one.severity) == ("visits_shop on visits", "hint")
    assert one.bytes is not None
    assert 100_000 < one.bytes < 1_000_000
    assert one.how_large.startswith("0 MB, never read since")
    assert one.todo == 'granary psql -c "drop index visits_shop"'
    run(warehouse, "set enable_seqscan = off", "select count(*) from public.visits where shop_id = 7")
    assert found(warehouse, "unused index") == []


def test_an_index_that_a_model_declares_is_told_once_if_neither_of_its_tables_uses_it(warehouse: Settings) -> None:
    for schema in ("build", "marts"):
        run(
            warehouse,
            f"create schema if not exists {schema}",
            f"create table {schema}.visits as select n as visit_id, n % 9 as shop_id from generate_series(1, {ROWS}) n",
            f"create index visits_shop on {schema}.visits (shop_id)",
            f"analyze {schema}.visits",
            f"select count(*) from {schema}.visits",
        )
    (one,) = found(warehouse, "unused index")
    assert one.where == "build.visits_shop, marts.visits_shop on build.visits, marts.visits"
    assert one.todo == (
        "take it out of meta.declared_indexes of the model visits,"
        ' then granary psql -c "drop index build.visits_shop, marts.visits_shop"'
    )
    run(warehouse, "set enable_seqscan = off", "select count(*) from marts.visits where shop_id = 7")
    assert found(warehouse, "unused index") == []


def test_an_index_that_another_one_begins_with_is_needless(warehouse: Settings, table: str) -> None:
    run(
        warehouse,
        "create index visits_shop on public.visits (shop_id)",
        "create index visits_shop_visit on public.visits (shop_id, visit_id)",
        "create unique index visits_key on public.visits (visit_id)",
    )
    (one,) = found(warehouse, "needless index")
    assert one.where == "visits_shop"
    assert "visits_shop_visit begins with the same columns" in one.how_large


def test_a_table_that_is_read_from_end_to_end_again_and_again_may_lack_an_index(
    warehouse: Settings, table: str
) -> None:
    reads = ["select count(*) from public.visits where shop_id = 7"] * 9
    run(warehouse, *reads)
    assert found(warehouse, "missing index") == []
    run(warehouse, reads[0])
    (one,) = found(warehouse, "missing index")
    assert one.where == "visits"
    assert "40,000 rows" in one.how_large
    assert "read from end to end 10 times, 0 times by an index" in one.how_large


def test_dead_rows_are_counted_and_a_vacuum_is_the_next_command(warehouse: Settings, table: str) -> None:
    run(warehouse, "delete from public.visits where visit_id <= 15000")
    (one,) = found(warehouse, "dead rows")
    assert (one.where, one.severity) == ("visits", "problem")
    assert one.how_large.startswith("15,000 dead rows beside 25,000")
    assert found(warehouse, "bloat") == []
    run(warehouse, one.todo.split('"')[1])
    assert found(warehouse, "dead rows") == []


def test_empty_pages_that_no_vacuum_gives_back_are_bloat(warehouse: Settings, table: str) -> None:
    run(warehouse, "delete from public.visits where visit_id % 10 > 0", "vacuum (analyze) public.visits")
    (one,) = found(warehouse, "bloat")
    # A row takes 28 bytes and 96 of values: 65 on a page, so 616 pages (5 MB), of which 4,000 rows need 62.
    assert one.where == "visits"
    assert one.bytes == (616 - 62) * 8192
    assert one.how_large == "about 5 MB of 5 MB are empty"
    run(warehouse, one.todo.split('"')[1])
    assert found(warehouse, "bloat") == []


def test_a_table_of_which_the_planner_knows_nothing_or_too_little(warehouse: Settings, table: str) -> None:
    run(
        warehouse,
        "create table public.calls (call_id int) with (autovacuum_enabled = off)",
        "insert into public.calls select generate_series(1, 2000)",
        f"insert into public.visits select n, 1, 'y' from generate_series(1, {ROWS}) as n",
    )
    told = {one.where: (one.how_large, one.todo) for one in found(warehouse, "no recent statistics")}
    assert told == {
        "calls": ("2,000 rows, and the planner knows nothing", 'granary psql -c "analyze calls"'),
        "visits": ("80,000 rows, planned for 40,000", 'granary psql -c "analyze visits"'),
    }
    run(warehouse, "analyze")
    assert found(warehouse, "no recent statistics") == []


def test_what_was_analyzed_in_the_transaction_that_filled_it_is_known(warehouse: Settings) -> None:
    with connect(warehouse) as connection:
        execute(connection, "create table public.calls as select generate_series(1, 2000) as call_id")
        execute(connection, "analyze public.calls")
        connection.commit()
    run(warehouse)
    assert found(warehouse, "no recent statistics") == []


def test_an_index_that_was_broken_off_is_not_valid(warehouse: Settings, table: str) -> None:
    run(warehouse, "insert into public.visits values (1, 1, 'twice')")
    with connect(warehouse, autocommit=True) as connection, pytest.raises(Exception, match="could not create unique"):
        execute(connection, "create unique index concurrently visits_key on public.visits (visit_id)")
    (one,) = found(warehouse, "index that is not valid")
    assert (one.where, one.todo) == ("visits_key", 'granary psql -c "reindex index visits_key"')


def test_slow_steps_and_those_that_became_slower(warehouse: Settings) -> None:
    seconds = {
        "wide": [30, 31, 29, 30],  # slow, as always
        "daily": [1, 1.2, 0.8, 4],  # slower: four times the median of 1 s
        "quick": [0.1, 0.1, 0.1, 1],  # ten times as long, and not worth a look
    }
    with connect(warehouse, role="transformer") as connection:
        for run_number in range(4):
            steps = [
                Step(f"run {run_number}", "model", name, f"build.{name}", False, took[run_number], None)
                for name, took in seconds.items()
            ]
            keep(connection, steps)
            connection.commit()
        keep(connection, [Step("refresh", "model", "daily", "build.daily", True, 60, None)])  # the first full refresh
        connection.rollback()
    told = {(one.what, one.where): one.how_large for one in doctor.examine(warehouse).findings if "slow" in one.what}
    assert told == {
        ("slow model", "wide"): "30.0 s, 86% of all steps, 30.0 s by the median of the runs before",
        ("model became slower", "daily"): "4.0 s, 11% of all steps, 1.0 s by the median of the runs before",
    }


def test_settings_of_another_machine_are_told(warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    if warehouse.external:
        pytest.skip("an external server says nothing of its machine")
    with connect(warehouse) as connection:
        there = query(connection, "show shared_buffers")[0][0]
    assert found(warehouse, "setting") == []
    monkeypatch.setattr(doctor, "tuning", lambda _: dict.fromkeys(doctor.sql.TUNED, "64MB"))
    told = {one.where: (one.how_large, one.todo) for one in found(warehouse, "setting")}
    assert told["shared_buffers"] == (f"{there}, and 64MB fits this machine", "granary down && granary up")


def test_a_login_that_is_no_superuser_is_told_what_it_may_not_see(
    warehouse: Settings, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_loader(settings: Settings, *, autocommit: bool) -> object:
        return connect(settings, role="loader", autocommit=autocommit)

    run(warehouse, "delete from public.visits where visit_id <= 15000")
    monkeypatch.setattr(doctor, "connect", as_loader)
    report = doctor.examine(warehouse, SMALL)
    assert [one.where for one in report.findings if one.what == "dead rows"] == ["visits"]
    assert any("tables that this login may not read" in left for left in report.left_out)


def test_the_command_exits_with_1_where_something_is_to_do_and_writes_json(warehouse: Settings, table: str) -> None:
    run(warehouse, "delete from public.visits where visit_id <= 15000")
    done = granary(warehouse, "doctor", "--json")
    said = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    assert not said["well"]
    (dead,) = (one for one in said["findings"] if one["what"] == "dead rows")
    assert (dead["where"], dead["severity"]) == ("visits", "problem")
    assert dead["how_large"].startswith("15,000 dead rows beside 25,000")
    assert dead["todo"] == 'granary psql -c "vacuum (analyze) visits"'
    shown = granary(warehouse, "doctor")
    assert "dead rows" in shown.stdout
    assert shown.stderr == ""
