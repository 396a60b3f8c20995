"""What `granary smoke` finds: marts that nobody can read, definitions that do not load, services that are down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from granary.supervisor import smoke
from granary.warehouse.connection import connect, execute

if TYPE_CHECKING:
    from pathlib import Path

    from granary.warehouse.settings import Settings

MARTS = """
    create schema marts;
    create table marts.orders (n integer);
    create view marts.broken as select 1 / n as n from marts.orders;
    create table marts.hidden (n integer);
    insert into marts.orders values (0);
    grant usage on schema marts to analyst;
    grant select on marts.orders, marts.broken to analyst
"""


def found(settings: Settings, *, served: bool = False) -> dict[str, str | None]:
    return {one.name: one.problem for one in smoke.tries(settings, served=served)}


def test_each_mart_that_an_analyst_may_read_is_read(warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "_validate", lambda settings: None)
    with connect(warehouse) as connection:
        for statement in MARTS.split(";"):
            execute(connection, statement)
        connection.commit()
    assert found(warehouse) == {
        "the warehouse": None,
        "marts.broken": "division by zero",
        "marts.orders": None,
        "the definitions": None,
    }
    monkeypatch.setattr(smoke, "UP_SECONDS", 0)
    assert "nothing is served" in (found(warehouse, served=True)["the services"] or "")


def test_definitions_that_do_not_load_are_a_problem(
    warehouse: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "orchestration").mkdir()
    (tmp_path / "orchestration" / "__init__.py").touch()
    (tmp_path / "orchestration" / "definitions.py").write_text("import a_module_that_is_nowhere\n")
    monkeypatch.setattr(smoke, "PROJECT", tmp_path)
    monkeypatch.setenv("GRANARY_PROJECT", str(tmp_path))
    words = found(warehouse)["the definitions"] or ""
    assert "No module named 'a_module_that_is_nowhere'" in words
