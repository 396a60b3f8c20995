"""The one-way doors between the folders: each forbidden import is found by `make lint` when somebody adds it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from warehouse.settings import PROJECT

ROOMS = ("demo", "granary", "ingestion", "orchestration", "warehouse")


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    """The project's packages as they are, to plant an import in."""
    for room in ROOMS:
        shutil.copytree(PROJECT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(root: Path) -> tuple[int, str]:
    """Check all doors as the Makefile does; the worst exit code and what was said."""
    codes, said = [], ""
    for config in ("pyproject.toml", "demo/importlinter.toml"):
        if not (root / config).exists():
            continue
        command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--config", config]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        codes.append(done.returncode)
        said += done.stdout + done.stderr
    return max(codes), said


def test_the_doors_are_shut_and_the_makefile_checks_them(rooms: Path) -> None:
    code, said = lint(rooms)
    assert code == 0, said
    makefile = (PROJECT / "Makefile").read_text()
    assert "lint-imports --no-logo\n" in makefile
    assert "lint-imports --no-logo --config demo/importlinter.toml" in makefile


@pytest.mark.parametrize(
    ("file", "line", "finding"),
    [
        ("warehouse/planted.py", "import ingestion", "warehouse is not allowed to import ingestion"),
        ("warehouse/planted.py", "import dbt.cli.main", "warehouse is not allowed to import dbt"),
        ("warehouse/planted.py", "from demo import clock", "warehouse is not allowed to import demo"),
        ("ingestion/sources/planted.py", "from dagster import asset", "ingestion is not allowed to import dagster"),
        ("ingestion/planted.py", "import dagster_dbt", "ingestion is not allowed to import dagster_dbt"),
        ("ingestion/planted.py", "import orchestration.defs", "ingestion is not allowed to import orchestration"),
        ("ingestion/planted.py", "def late():\n    import demo", "ingestion is not allowed to import demo"),
        ("orchestration/planted.py", "import granary", "orchestration is not allowed to import granary"),
        ("orchestration/planted.py", "import demo.clock", "orchestration is not allowed to import demo"),
        ("demo/planted.py", "import ingestion.load", "demo is not allowed to import ingestion"),
        ("demo/planted.py", "from granary import environment", "demo is not allowed to import granary"),
    ],
)
def test_a_forbidden_import_is_found(rooms: Path, file: str, line: str, finding: str) -> None:
    (rooms / file).write_text(f'"""Planted."""\n\n{line}\n')
    code, said = lint(rooms)
    assert code == 1
    assert finding in said


def test_the_demo_may_be_deleted(rooms: Path) -> None:
    shutil.rmtree(rooms / "demo")
    code, said = lint(rooms)
    assert code == 0, said
