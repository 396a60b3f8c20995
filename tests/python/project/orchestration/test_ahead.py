"""dbt that is started before its work is known, on this project."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from granary.dbt import ahead, manifest

if TYPE_CHECKING:
    from pathlib import Path

    from granary.warehouse.settings import Settings


def test_it_ends_with_its_input_and_runs_dbt_with_what_it_was_given(settings: Settings, tmp_path: Path) -> None:
    """A real one, told to parse a project that is not there: it says so as dbt does, and ends with dbt's exit code."""
    manifest.prepare(settings)
    ahead.start(settings, manifest.fingerprint(settings))
    environment = manifest.environment(settings, tmp_path) | {"DBT_PROJECT_DIR": str(tmp_path / "nowhere")}
    process = ahead.take([*manifest.DBT, "parse"], environment)
    assert process is not None
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert b"nowhere" in said
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
