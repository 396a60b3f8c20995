"""The one-way doors between demo, project and engine, which `make lint` keeps shut."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from granary.warehouse.project import PROJECT
from tests.python.support.doors import ALL, ROOMS, copy_rooms, lint, plant

if TYPE_CHECKING:
    from pathlib import Path


PLANTED = [
    ("ingestion/planted.py", "from dagster import asset", "ingestion is not allowed to import dagster"),
    ("ingestion/planted.py", "def late():\n    import demo", "ingestion is not allowed to import demo"),
    ("orchestration/planted.py", "import demo.clock", "orchestration is not allowed to import demo"),
    ("dashboards/planted.py", "import ingestion", "dashboards is not allowed to import ingestion"),
]
"""A file, the import that is added to it, and what is said of that."""


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    """All packages as they are."""
    return copy_rooms(tmp_path, *ROOMS)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is said of all packages with all of these imports added."""
    code, said = plant(copy_rooms(tmp_path_factory.mktemp("planted"), *ROOMS), PLANTED)
    assert code == 1
    return said


def test_the_doors_are_shut_and_the_makefile_checks_them(rooms: Path) -> None:
    code, said = lint(rooms)
    assert code == 0, said
    assert f"lint-imports --no-logo --config {ALL}" in (PROJECT / "Makefile").read_text()


@pytest.mark.parametrize("finding", [finding for *_, finding in PLANTED])
def test_a_forbidden_import_is_found(said: str, finding: str) -> None:
    assert finding in said


def test_the_demo_may_be_deleted(rooms: Path) -> None:
    shutil.rmtree(rooms / "demo")
    code, said = lint(rooms)
    assert code == 0, said
