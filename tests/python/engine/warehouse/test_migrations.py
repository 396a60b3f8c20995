"""A warehouse of any earlier version arrives at the schema of a new one, whatever happens on the way."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from granary.warehouse import connection as connections
from granary.warehouse import migrate, server
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError
from tests.python.support.business import REPOSITORY
from tests.python.support.earlier_warehouse import CONTENT, SCHEMAS, content, earlier, schema_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]

START = """
import sys
from pathlib import Path
from granary.warehouse import migrate, server
from granary.warehouse.settings import Settings
migrate.FOLDER = Path(sys.argv[1])
print(*server.prepare(Settings.load()))
"""
KNOWN = [path.name for path in sorted(migrate.FOLDER.glob("[0-9]*.sql"))]
"""The migrations that this engine brings."""
NUMBERS = [int(name[:4]) for name in KNOWN]
BEFORE = KNOWN[0]
LATER = "9001_ledger_notes.sql"
NOTES = """
alter table ops.load_audit add column note text;
update ops.load_audit set note = 'of before';
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of migrations, of which this process knows, too."""
    copy = tmp_path / "migrations"
    shutil.copytree(migrate.FOLDER, copy)
    monkeypatch.setattr(migrate, "FOLDER", copy)
    return copy


def start(folder: Path, kill_at: str = "") -> subprocess.Popen[str]:
    """Start what `granary up` does to a warehouse that is up, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", START, str(folder)],
        env=os.environ | {"GRANARY_KILL_AT": kill_at},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def numbers(rows: Rows) -> list[object]:
    return [number for (number,) in rows("select number from ops.migrations order by number")]


@pytest.mark.parametrize(
    ("schema", "counted"),
    [("first.sql", [(3, True)]), ("unnumbered.sql", [])],  # counted where there was no such table
)
def test_an_earlier_warehouse_becomes_what_a_new_one_is(
    warehouse: Settings, rows: Rows, schema: str, counted: list[object]
) -> None:
    new = schema_text(warehouse)
    earlier(warehouse, schema)
    assert schema_text(warehouse) != new
    assert server.prepare(warehouse) == tuple(KNOWN)
    assert schema_text(warehouse) == new
    assert content(rows) == CONTENT
    assert rows("select row_count, file = pg_relation_filenode('raw_shop.orders') from ops.raw_tables") == counted
    assert server.prepare(warehouse) == ()


def test_a_start_with_nothing_to_apply_writes_nothing_down(warehouse: Settings, rows: Rows) -> None:
    before = rows("select *, xmin::text from ops.migrations order by number")
    assert [(number, name) for number, name, *_ in before] == [(0, "functions.sql"), *zip(NUMBERS, KNOWN, strict=True)]
    server.prepare(warehouse)
    assert rows("select *, xmin::text from ops.migrations order by number") == before


def test_a_migration_is_applied_once_and_remembered(warehouse: Settings, rows: Rows, folder: Path) -> None:
    (folder / LATER).write_text(NOTES)
    assert server.prepare(warehouse) == (LATER,)
    assert server.prepare(warehouse) == ()
    assert rows("select name, sha256, engine from ops.migrations where number = 9001") == [
        (LATER, "83630a1c76e272d88ad66552b64e2102c8e919858b46896dcbf08cac413f83a7", migrate.engine_version())
    ]


@pytest.mark.parametrize(
    ("point", "left"),
    [
        ("migration-applied", None),
        ("migration-committed", [1]),
        ("migration-applied:2", [1]),
        ("rights-applied", [*NUMBERS, 9001]),
    ],
)
def test_a_start_that_is_killed_leaves_whole_migrations_and_the_next_goes_on(
    warehouse: Settings, rows: Rows, folder: Path, point: str, left: list[int] | None
) -> None:
    (folder / LATER).write_text(NOTES)
    new = schema_text(warehouse)
    earlier(warehouse, "unnumbered.sql")
    before = schema_text(warehouse)
    killed = start(folder, point)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    if left is None:
        assert schema_text(warehouse) == before
    else:
        assert numbers(rows) == left
    server.prepare(warehouse)
    assert numbers(rows) == [0, *NUMBERS, 9001]
    assert set(new) <= set(schema_text(warehouse))
    assert content(rows) == CONTENT
    assert rows("select distinct note from ops.load_audit") == [("of before",)]


def test_a_rehearsal_tries_every_migration_and_leaves_nothing_of_it(
    warehouse: Settings, rows: Rows, folder: Path
) -> None:
    new = schema_text(warehouse)
    earlier(warehouse, "unnumbered.sql")
    before = schema_text(warehouse)
    assert server.prepare(warehouse, rehearses=True) == tuple(KNOWN)
    assert schema_text(warehouse) == before
    (folder / LATER).write_text("alter table ops.nowhere add column x text;")
    with pytest.raises(GranaryError, match=f'{LATER}: relation "ops.nowhere" does not exist'):
        server.prepare(warehouse, rehearses=True)
    assert schema_text(warehouse) == before
    (folder / LATER).unlink()
    server.prepare(warehouse)
    assert schema_text(warehouse) == new
    assert content(rows) == CONTENT
    assert server.prepare(warehouse, rehearses=True) == ()


def test_two_starts_at_once_apply_each_migration_once(warehouse: Settings, rows: Rows, folder: Path) -> None:
    (folder / LATER).write_text(NOTES)
    earlier(warehouse, "unnumbered.sql")
    waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    with connect(warehouse) as loading:  # holds up the first migration until both are at it
        execute(loading, "lock table ops.load_audit in row exclusive mode")
        both = [start(folder) for _ in range(2)]
        while rows(waiting) != [(2,)] and all(process.poll() is None for process in both):
            pass
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted(out.strip() for out, _ in said) == ["", " ".join([*KNOWN, LATER])]
    assert numbers(rows) == [0, *NUMBERS, 9001]
    assert content(rows) == CONTENT


def test_a_migration_that_fails_leaves_nothing_of_it_and_says_why(
    warehouse: Settings, rows: Rows, folder: Path
) -> None:
    before = schema_text(warehouse)
    (folder / LATER).write_text(NOTES + "alter table ops.nowhere add column x text;")
    with pytest.raises(
        GranaryError, match=f'{LATER}: relation "ops.nowhere" does not exist; nothing of it was applied'
    ):
        server.prepare(warehouse)
    assert numbers(rows) == [0, *NUMBERS]
    assert schema_text(warehouse) == before


def test_a_migration_waits_for_a_load_only_so_long(
    warehouse: Settings, rows: Rows, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / LATER).write_text(NOTES)
    monkeypatch.setattr(connections, "LOCK_SECONDS", 1)
    with connect(warehouse, role="loader") as loading:
        execute(loading, "lock table ops.load_audit in row exclusive mode")
        with pytest.raises(GranaryError, match=f"{LATER}: lock timeout after .*; wait for that session"):
            server.prepare(warehouse)
    assert numbers(rows) == [0, *NUMBERS]
    assert server.prepare(warehouse) == (LATER,)


def test_a_warehouse_of_a_newer_engine_is_not_touched(warehouse: Settings, folder: Path) -> None:
    (folder / LATER).write_text(NOTES)
    server.prepare(warehouse)
    with connect(warehouse) as connection:
        execute(connection, "revoke select on ops.load_audit from auditor")  # what a start would give again
        execute(connection, "update ops.migrations set engine = '9.1.0' where number = 9001")
        connection.commit()
    before = schema_text(warehouse)
    (folder / LATER).unlink()
    with pytest.raises(
        GranaryError,
        match=rf"unknown or newer version: it has had the migration {LATER} by engine 9\.1\.0.*nothing was",
    ) as refused:
        server.prepare(warehouse)
    assert warehouse.database in refused.value.where
    assert refused.value.todo == "install the engine that made it, or a newer one"
    assert schema_text(warehouse) == before


def test_functions_follow_their_file_but_not_back_to_an_older_engine(
    warehouse: Settings, rows: Rows, folder: Path
) -> None:
    functions = folder / migrate.FUNCTIONS
    changed = functions.read_text().replace("lock timeout after %", "no lock after %")
    original = functions.read_text()
    functions.write_text(changed)
    assert server.prepare(warehouse) == ()
    source = "select prosrc like '%no lock after%' from pg_proc where proname = 'take_lock'"
    assert rows(source) == [(True,)]
    with connect(warehouse) as connection:
        execute(connection, "update ops.migrations set engine = '9.1.0' where number = 0")
        connection.commit()
    server.prepare(warehouse)  # alike, whoever applied them
    functions.write_text(original)
    with pytest.raises(GranaryError, match=r"newer version: its functions are those of engine 9\.1\.0"):
        server.prepare(warehouse)
    assert rows(source) == [(True,)]


def test_a_migration_that_was_changed_after_it_was_applied_is_refused(warehouse: Settings, folder: Path) -> None:
    before = schema_text(warehouse)
    with (folder / BEFORE).open("a") as file:
        file.write("create table ops.more (n integer);\n")
    with pytest.raises(
        GranaryError, match=f"{BEFORE} was changed after it was applied .*nothing was touched"
    ) as refused:
        server.prepare(warehouse)
    assert refused.value.where.startswith(f"granary/warehouse/migrations/{BEFORE}; ")
    assert refused.value.todo.startswith("restore the file as it was")
    assert schema_text(warehouse) == before


def test_what_a_migration_dropped_with_its_tables_comes_again(warehouse: Settings, rows: Rows, folder: Path) -> None:
    views = "ops.freshness, ops.activities, ops.load_latency, ops.quality_scores"
    changed = "alter table ops.load_audit alter column bytes type numeric;"
    (folder / LATER).write_text(f"drop view {views} cascade; {changed}")
    server.prepare(warehouse)
    with connect(warehouse, role="loader") as connection:
        assert query(connection, "select count(*) from ops.freshness") == [(0,)]


def test_tables_that_dbt_made_itself_stay_as_they_are(warehouse: Settings, rows: Rows) -> None:
    """Up to the third migration dbt made its records when it ran."""
    new = schema_text(warehouse)
    with connect(warehouse) as connection:
        for table in ("model_audits", "unpublished", "publish_holds", "builds", "publishes", "published_months"):
            execute(connection, f"comment on table ops.{table} is null")
        execute(connection, "drop table ops.model_audits")
        execute(connection, "set role transformer")
        execute(connection, "insert into ops.unpublished (schema_name, mart, invocation_id) values ('marts', 'r', 'x')")
        execute(connection, "reset role")
        execute(connection, "delete from ops.migrations where number = 3")
        connection.commit()
    assert server.prepare(warehouse) == ("0003_publish_records.sql",)
    assert schema_text(warehouse) == new
    assert rows("select unpublished_id, mart from ops.unpublished") == [(1, "r")]


def test_every_release_is_upgraded_from() -> None:
    """A release's schema is kept beside those above, as `pg_dump` writes it, and named in their tests."""
    released = re.findall(r"(?m)^## (\d\S*)", (REPOSITORY / "CHANGELOG.md").read_text())
    assert {f"{version}.sql" for version in released} <= {path.name for path in SCHEMAS.glob("*.sql")}


def test_migrations_are_numbered_without_gaps() -> None:
    numbers = [migration.number for migration in migrate.installed().migrations]
    assert numbers == list(range(1, len(numbers) + 1))
