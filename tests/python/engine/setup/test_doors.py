"""The one-way doors between the folders: each forbidden import is found by `make lint` when somebody adds it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from granary.warehouse.project import PROJECT

ROOMS = ("dashboards", "demo", "granary", "ingestion", "orchestration")


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
        ("ingestion/planted.py", "from dagster import asset", "ingestion is not allowed to import dagster"),
        ("ingestion/planted.py", "def late():\n    import demo", "ingestion is not allowed to import demo"),
        ("orchestration/planted.py", "import demo.clock", "orchestration is not allowed to import demo"),
        ("dashboards/planted.py", "import ingestion", "dashboards is not allowed to import ingestion"),
    ],
)
def test_a_forbidden_import_is_found(rooms: Path, file: str, line: str, finding: str) -> None:
    before = (rooms / file).read_text() if (rooms / file).exists() else '"""Planted."""\n'
    (rooms / file).write_text(f"{before}\n{line}\n")
    code, said = lint(rooms)
    assert code == 1
    assert finding in said


def test_the_demo_may_be_deleted(rooms: Path) -> None:
    shutil.rmtree(rooms / "demo")
    code, said = lint(rooms)
    assert code == 0, said
