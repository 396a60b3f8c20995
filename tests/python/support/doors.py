"""The packages as they are, to plant an import in, and what `make lint` says of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOMS = ("dashboards", "demo", "granary", "ingestion", "orchestration")
ENGINE, ALL = "pyproject.toml", "demo/importlinter.toml"
"""The doors of the engine, and those of the project and the demo."""


def copy_rooms(folder: Path, *rooms: str) -> Path:
    """Copy these packages and the doors of the engine."""
    for room in rooms:
        shutil.copytree(PROJECT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / ENGINE, folder)
    return folder


def lint(root: Path) -> tuple[int, str]:
    """Check all doors as the Makefile does; the worst exit code and what was said."""
    codes, said = [], ""
    for config in (ENGINE, ALL):
        if not (root / config).exists():
            continue
        command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--config", config]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        codes.append(done.returncode)
        said += done.stdout + done.stderr
    return max(codes), said


def plant(root: Path, imports: Iterable[tuple[str, str, str]]) -> tuple[int, str]:
    """Add imports to modules, and check the doors."""
    for file, line, _ in imports:
        before = (root / file).read_text() if (root / file).exists() else '"""Planted."""\n'
        (root / file).write_text(f"{before}\n{line}\n")
    return lint(root)
