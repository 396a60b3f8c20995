"""The one-way doors of the engine: each forbidden import is found by `make lint` when somebody adds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from granary.warehouse.project import PROJECT
from tests.python.support.doors import copy_rooms, lint, plant

if TYPE_CHECKING:
    from pathlib import Path


PLANTED = [
    (
        "granary/warehouse/planted.py",
        "import granary.load",
        "granary.warehouse is not allowed to import granary.load",
    ),
    ("granary/warehouse/planted.py", "import dbt.cli.main", "granary.warehouse is not allowed to import dbt"),
    (
        "granary/load/planted.py",
        "def late():\n    from dagster import asset",
        "granary.load is not allowed to import",
    ),
    ("granary/cli/planted.py", "from demo import clock", "granary is not allowed to import demo"),
    ("granary/dagster/planted.py", "import orchestration.jobs", "granary is not allowed to import orchestration"),
    ("granary/pages/planted.py", "import dashboards", "granary is not allowed to import dashboards"),
    (
        "granary/cdc/postgres/lsn.py",
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from granary.cdc.postgres.state import State",
        "No cycles are allowed in granary.cdc.postgres",
    ),
]
"""A file, the import that is added to it, and what is said of that."""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is said of the engine, without any project beside it, with all of these imports added."""
    code, said = plant(copy_rooms(tmp_path_factory.mktemp("planted"), "granary"), PLANTED)
    assert code == 1
    return said


def test_the_doors_are_shut_and_the_makefile_checks_them(tmp_path: Path) -> None:
    code, said = lint(copy_rooms(tmp_path, "granary"))
    assert code == 0, said
    assert "lint-imports --no-logo\n" in (PROJECT / "Makefile").read_text()


@pytest.mark.parametrize("finding", [finding for *_, finding in PLANTED])
def test_a_forbidden_import_is_found(said: str, finding: str) -> None:
    assert finding in said
