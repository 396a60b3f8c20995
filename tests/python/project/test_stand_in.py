"""The stand-in for dbt_utils where the package cannot be had holds what this project calls, and nothing else."""

from __future__ import annotations

import re

from granary.warehouse.project import PROJECT

STAND_IN = PROJECT / "granary/setup/offline/dbt_utils"
CALLERS = ("granary/dbt_package", "models", "macros", "snapshots", "seeds", "tests/dbt")


def called() -> set[str]:
    """The names that the project calls in dbt_utils."""
    files = [file for folder in CALLERS for file in (PROJECT / folder).rglob("*") if file.is_file()]
    return {
        name
        for file in [*files, PROJECT / "dbt_project.yml"]
        if file.suffix in {".sql", ".yml", ".yaml"}
        for name in re.findall(r"\bdbt_utils\.(\w+)", file.read_text())
    }


def held() -> set[str]:
    """The macros and generic tests that the stand-in holds."""
    texts = [file.read_text() for file in (STAND_IN / "macros").rglob("*.sql")]
    return {name for text in texts for name in re.findall(r"{%-?\s*(?:macro|test)\s+(\w+)", text)}


def test_the_stand_in_holds_exactly_what_the_project_calls() -> None:
    assert held() == called()
