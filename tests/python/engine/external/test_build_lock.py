"""One build at a time, whoever starts it and wherever: a run, a shell's dbt, another machine."""

from __future__ import annotations

import os
import platform
from threading import Event
from typing import TYPE_CHECKING

import pytest

from granary.warehouse.build_lock import building
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError, TransientError
from tests.python.engine.external.conftest import build, dbt_of_a_shell

if TYPE_CHECKING:
    from pathlib import Path

    from granary.warehouse.settings import Settings

HOLDER = (
    rf"pid \d+ \(transformer, granary build by process {os.getpid()} on {platform.node()}\),"
    r" since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
)


def nothing() -> None:
    """Be told."""


def test_a_second_build_is_told_who_builds_and_gives_up(warehouse: Settings) -> None:
    said: list[str] = []
    with building(warehouse, "marts", said.append, nothing):
        with (
            pytest.raises(GranaryError, match=rf"another process is building marts, and has been for 0 s: {HOLDER}"),
            building(warehouse, "marts", said.append, nothing, seconds=0),
        ):
            pytest.fail("two build at once")
        assert len(said) == 1
        assert said[0].startswith("waiting: another process is building marts: pid ")
        with building(warehouse, "dev_ada_marts", said.append, nothing, seconds=0):
            assert len(said) == 1  # a developer's own marts are nobody else's
    with building(warehouse, "marts", said.append, nothing, seconds=0):
        assert len(said) == 1


def test_a_lock_whose_session_is_ended_stops_the_build(warehouse: Settings) -> None:
    stopped = Event()
    with (  # noqa: PT012 - the error comes at the end
        pytest.raises(TransientError, match="the session that held its lock was ended"),
        building(warehouse, "marts", print, stopped.set),
    ):
        with connect(warehouse, autocommit=True) as connection:
            execute(
                connection,
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'granary build%'"
                " and datname = current_database()",
            )
        assert stopped.wait(60)


def test_dbt_of_a_shell_waits_for_whoever_builds(warehouse: Settings, tmp_path: Path) -> None:
    """It is the same lock, in the database: a file of the home would be another one on another machine."""
    with building(warehouse, "marts", print, nothing):
        shell = dbt_of_a_shell(tmp_path)
        assert shell.stdout
        lines = []
        for line in shell.stdout:
            lines.append(line)
            if "waiting: another process is building marts: pid " in line:
                break
        else:
            pytest.fail("".join(lines))
        with connect(warehouse) as connection:
            assert query(connection, "select count(*) from ops.builds") == [(0,)]
    rest, _ = shell.communicate(timeout=120)
    assert "does not exist" in rest  # there is no raw table: it went on to build


def test_a_build_whose_parent_has_the_lock_takes_none(
    warehouse: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(warehouse, role="loader") as connection:
        for statement in (
            "create schema raw_till",
            "create table raw_till.receipts (receipt_id bigint, article_id bigint, paid_at timestamp, amount numeric)",
            "grant usage on schema raw_till to transformer",
        ):
            execute(connection, statement)
        connection.commit()
    with building(warehouse, "marts", print, nothing):
        monkeypatch.setenv("GRANARY_BUILDING", "yes")
        assert build(tmp_path).success
