"""No value of a row is in an error: not on the terminal, in dbt's files, in our log, in events, in the server's log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from granary.cli import log
from granary.readers.database.connecting import words
from granary.warehouse.connection import connect, execute, reason
from granary.warehouse.database_errors import plain, safe_text
from granary.warehouse.project import PROJECT
from tests.python.support.command import own_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings

SECRET = "909090909"
"""The planted household."""
FAILING = {
    "not_null": f"insert into t (id, at) values ({SECRET}, null)",
    "check": f"insert into t (id, at, n) values ({SECRET}, now(), -1)",
    "unique": f"insert into t (id, at) values ({SECRET}, now()), ({SECRET}, now())",
    "cast": f"select cast('x{SECRET}' as integer)",
    "quotes": f"""select cast('"{SECRET}" "{SECRET}' as integer)""",
    "instant": f"select cast('{SECRET}-99-99' as timestamp)",
    "range": f"select cast({SECRET}::bigint * {SECRET} as integer), cast('{SECRET}{SECRET}' as integer)",
    "json": f"""select cast('{{"household": {SECRET}, }}' as json)""",
    "bytes": f"select convert_from('{SECRET}\\xff'::bytea, 'UTF8')",
    "time zone": f"select now() at time zone 'x{SECRET}'",
    "context": f"do $$ begin execute 'select 1 / (n - {SECRET}) from (values ({SECRET})) as v (n)'; end $$",
    "copy": "copy t (id, at, n) from stdin",
}


def fail(connection: psycopg.Connection[Any], sql: str) -> psycopg.Error:
    """Return the error of a statement that fails."""
    with pytest.raises(psycopg.Error) as failed:
        run(connection, sql)
    connection.rollback()
    return failed.value


def run(connection: psycopg.Connection[Any], sql: str) -> None:
    """Run a statement; a COPY gets one line that cannot be read."""
    with connection.cursor() as cursor:
        if sql.startswith("copy"):
            with cursor.copy(sql.encode()) as copy:
                copy.write(f"{SECRET}\tnever {SECRET}\t1\n")
        else:
            cursor.execute(sql.encode())


@pytest.mark.parametrize("how", FAILING)
def test_an_error_of_the_warehouse_shows_no_values(settings: Settings, tmp_path: Path, how: str) -> None:
    with connect(settings, role="loader") as connection:
        execute(connection, "create temporary table t (id bigint unique, at timestamp not null, n int check (n > 0))")
        connection.commit()
        error = fail(connection, FAILING[how])
    assert SECRET in (getattr(error.diag, "message_detail", "") or "") + (error.diag.message_primary or "") + (
        error.diag.context or ""
    ) or how in ("range", "bytes", "time zone")
    assert SECRET not in str(error) + repr(error) + reason(error) + safe_text(error)
    assert reason(error)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRANARY_HOME", str(tmp_path))
        assert SECRET not in log.failure(error).read_text()


def test_what_helps_stays(settings: Settings) -> None:
    with connect(settings) as connection:
        execute(connection, "create temporary table t (household_id bigint unique, at timestamp not null)")
        connection.commit()
        assert "t_household_id_key" in str(fail(connection, "insert into t values (1, now()), (1, now())"))
        assert 'null value in column "at"' in str(fail(connection, "insert into t values (1, null)"))
        assert "LINE 1: select household from t" in str(fail(connection, "select household from t"))
        assert 'Perhaps you meant to reference the column "t.household_id"' in str(
            fail(connection, "select household_i from t")
        )
        assert str(fail(connection, "select cast('abc' as integer)")) == 'invalid input syntax for type integer: "…"'


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('ERROR: duplicate value violates "k"\nDETAIL:  Key (id)=(12) exists.', 'ERROR: duplicate value violates "k"'),
        ('[libpq] invalid input syntax for type date: "ada"', '[libpq] invalid input syntax for type date: "…"'),
        ('relation "raw_crm.t" does not exist', 'relation "raw_crm.t" does not exist'),
    ],
)  # fmt: skip
def test_of_a_driver_that_knows_only_text_the_details_go(text: str, wanted: str) -> None:
    assert plain(text) == wanted


class IntegrityError(Exception):
    """As drivers of MySQL and others name theirs."""


class DataError(Exception):
    """The same."""


def test_other_databases_show_no_values_either() -> None:
    assert words(IntegrityError(1062, "Duplicate entry 'ada@example.org' for key 't.mail'")) == (
        "Duplicate entry '…' for key '…'"
    )
    assert words(DataError(1292, "Incorrect datetime value: 'ada' for column 'at'")) == (
        "Incorrect datetime value: '…' for column '…'"
    )


MODEL = """
{{ config(materialized='incremental', schema='marts') }}
select household_id, at, cast({{ var('how') }} as timestamp) as until
from raw_crm.t where household_id > 0
"""
TABLE = """
create schema if not exists raw_crm;
grant usage on schema raw_crm to transformer;
create table if not exists raw_crm.t (household_id bigint, at timestamp);
truncate raw_crm.t;
insert into raw_crm.t values (909090909, 'infinity')
"""


def test_a_build_that_fails_shows_no_value_in_any_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By `dbt` as a person runs it in a shell: terminal, dbt.log, run results; and the server's log."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "kept.sql").write_text(MODEL)
    (tmp_path / "dbt_project.yml").write_text("name: small\nversion: 0.1.0\nprofile: granary\nmodel-paths: [models]\n")
    with own_server(monkeypatch) as settings:
        with connect(settings, role="loader", autocommit=True) as connection:
            for sql in TABLE.split(";"):
                execute(connection, sql)

        def run(how: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [
                    *(str(Path(sys.executable).with_name("dbt")), "run", "--vars", f'how: "{how}"'),
                    *("--project-dir", str(tmp_path), "--profiles-dir", str(PROJECT)),
                    *("--log-path", str(tmp_path / "logs"), "--target-path", str(tmp_path / "target")),
                    *("--log-level-file", "debug"),
                ],
                cwd=tmp_path,
                env=settings.environment(),
                capture_output=True,
                text=True,
                check=False,
            )

        first = run("null")
        assert first.returncode == 0, first.stdout
        with connect(settings, role="transformer", autocommit=True) as connection:
            execute(connection, "alter table marts_marts.kept add constraint unended check (until is null)")
        for how, said in (("at", "violates check constraint"), ("'x' || household_id", "invalid input syntax")):
            done = run(how)
            assert done.returncode == 1
            assert said in done.stdout
            places = {
                "terminal": done.stdout + done.stderr,
                "dbt.log": (tmp_path / "logs" / "dbt.log").read_text(),
                "run results": (tmp_path / "target" / "run_results.json").read_text(),
                "server's log": (settings.home / "postgres.log").read_text(),
            }
            assert [name for name, text in places.items() if SECRET in text] == []
            assert said in places["run results"]


def test_dbt_in_a_process_of_python_shows_no_values_either(rows: Callable[..., Any]) -> None:
    """Whoever runs dbt from Python (Dagster, the tests) has the same: dbt finds our module by its name."""
    code = (
        "from dbt.plugins import set_up_plugin_manager as up; up('small');"
        "from dbt.adapters.postgres.connections import PostgresConnectionManager as m;"
        "print(m.exception_handler.keeps_values_back)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr
