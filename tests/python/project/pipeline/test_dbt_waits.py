"""dbt waits for a lock as long as it may, and says who has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
