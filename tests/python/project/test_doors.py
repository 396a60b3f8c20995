"""The one-way doors between demo, project and engine, which `make lint` keeps shut."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from granary.warehouse.project import PROJECT
from tests.python.support.doors import ALL, ROOMS, copy_rooms, lint, plant

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    """All packages as they are, to plant an import in."""
    return copy_rooms(tmp_path, *ROOMS)


def test_the_doors_are_shut_and_the_makefile_checks_them(rooms: Path) -> None:
    code, said = lint(rooms)
    assert code == 0, said
    assert f"lint-imports --no-logo --config {ALL}" in (PROJECT / "Makefile").read_text()


@pytest.mark.parametrize(
    ("file", "line", "finding"),
    [
        ("ingestion/planted.py", "from dagster import asset", "ingestion is not allowed to import dagster"),
        ("ingestion/planted.py", "def late():\n    import demo", "ingestion is not allowed to import demo"),
        ("orchestration/planted.py", "import demo.clock", "orchestration is not allowed to import demo"),
        ("dashboards/planted.py", "import ingestion", "dashboards is not allowed to import ingestion"),
    ],
)
def test_a_forbidden_import_is_found(rooms: Path, file: str, line: str, finding: str) -> None:
    code, said = plant(rooms, file, line)
    assert code == 1
    assert finding in said


def test_the_demo_may_be_deleted(rooms: Path) -> None:
    shutil.rmtree(rooms / "demo")
    code, said = lint(rooms)
    assert code == 0, said
