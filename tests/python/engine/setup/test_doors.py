"""The one-way doors of the engine: each forbidden import is found by `make lint` when somebody adds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from granary.warehouse.project import PROJECT
from tests.python.support.doors import copy_rooms, lint, plant

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    """The engine as it is, without any project beside it."""
    return copy_rooms(tmp_path, "granary")


def test_the_doors_are_shut_and_the_makefile_checks_them(rooms: Path) -> None:
    code, said = lint(rooms)
    assert code == 0, said
    assert "lint-imports --no-logo\n" in (PROJECT / "Makefile").read_text()


@pytest.mark.parametrize(
    ("file", "line", "finding"),
    [
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
            "granary/cdc/lsn.py",
            "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from granary.cdc.state import State",
            "No cycles are allowed in granary.cdc",
        ),
    ],
)
def test_a_forbidden_import_is_found(rooms: Path, file: str, line: str, finding: str) -> None:
    code, said = plant(rooms, file, line)
    assert code == 1
    assert finding in said
