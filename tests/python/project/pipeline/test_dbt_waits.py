"""dbt waits for a lock as long as it may, and says who has it; a thread has one session for all its nodes."""

from __future__ import annotations

from contextlib import closing
from threading import current_thread
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

import dbt_granary
from granary.warehouse import waits
from granary.warehouse.connection import LockHeldError, connect, execute

if TYPE_CHECKING:
    from tests.python.project.pipeline.conftest import Pipeline


def test_a_table_that_somebody_locks_fails_its_model_and_names_the_holder(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dbt_granary, "LOCK_SECONDS", 2)
    monkeypatch.setattr(dbt_granary, "LOOKS", (0.2, 0.2))
    with connect(pipeline.settings, role="transformer") as other:

        def let_go(seconds: float, holder: str) -> LockHeldError:
            other.rollback()  # the end of the run looks at the table as well
            return LockHeldError(seconds, holder)

        monkeypatch.setattr(waits, "LockHeldError", let_go)
        execute(other, "lock table build.dim_store in access exclusive mode")
        failed = pipeline.dbt("run", "--select", "dim_store", succeeds=False, log="info")["dim_store"]
        holder = f"build.dim_store is held by pid {other.pgconn.backend_pid} (transformer, granary, since "
    message = " ".join(str(failed.message).split())
    assert "lock timeout after 2" in message
    assert holder in message
    assert "wait for that session, or end it" in message
    assert (pipeline.target / "dbt.log").read_text().count(f"waiting for a lock: {holder}") == 1
    pipeline.dbt("run", "--select", "dim_store")


def test_a_limit_of_the_database_goes_first(pipeline: Pipeline) -> None:
    """Its own limit is only for who has none; in an empty result there is nothing to set."""
    with connect(pipeline.settings) as connection:
        execute(connection, "set lock_timeout = 0")
        execute(connection, dbt_granary.LIMIT.format(120))
        assert connection.execute("show lock_timeout").fetchall() == [("2min",)]
        execute(connection, "set lock_timeout = '300ms'")
        execute(connection, dbt_granary.LIMIT.format(120))
        assert connection.execute("show lock_timeout").fetchall() == [("300ms",)]


def test_a_thread_of_dbt_has_one_session_for_all_its_nodes(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = psycopg2.connect

    def connect(**arguments: Any) -> Any:
        opened.append(current_thread().name)
        return real(**arguments)

    monkeypatch.setattr(psycopg2, "connect", connect)
    built = pipeline.dbt("run", "--select", "dim_store", "dim_date", "dim_campaign", "dim_coupon", "stg_crm__stores")
    assert len(built) >= 5
    lasting = [name for name in opened if not name.startswith("ThreadPoolExecutor")]
    assert len(lasting) == len(set(lasting)) <= 3  # the run itself, and its two threads


def test_the_next_node_finds_a_session_like_a_new_one(pipeline: Pipeline) -> None:
    state = (
        "select current_setting('work_mem'), current_setting('search_path'), current_setting('lock_timeout'),"
        " current_user, to_regclass('pg_temp.mine')::text,"
        " (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())"
    )
    with closing(psycopg2.connect(pipeline.settings.uri())) as session, session.cursor() as cursor:
        cursor.execute("set role transformer")
        cursor.execute(dbt_granary.LIMIT.format(dbt_granary.LOCK_SECONDS))
        session.commit()
        cursor.execute(state)
        before = cursor.fetchone()
        cursor.execute("set work_mem = '77MB'; set search_path = ops; set lock_timeout = 7")
        cursor.execute("create temporary table mine (n int); select pg_advisory_lock(7)")
        session.commit()
        cursor.execute("create table build.never (n int)")
        assert dbt_granary.cleaned(session)
        cursor.execute(state)
        assert cursor.fetchone() == before == (*before[:2], "2min", "transformer", None, 0)
        cursor.execute("show synchronous_commit")
        assert cursor.fetchone() == ("off",)
        cursor.execute("select to_regclass('build.never')")
        assert cursor.fetchone() == (None,)
        session.commit()
        with connect(pipeline.settings, autocommit=True) as other:
            execute(other, f"select pg_terminate_backend({session.info.backend_pid}, 10000)")
        assert not dbt_granary.cleaned(session)
