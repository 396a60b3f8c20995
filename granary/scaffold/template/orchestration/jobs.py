"""The jobs of this project, beside `everything` and `full_refresh`, which every project has."""

from __future__ import annotations

from granary.dagster.jobs import Assets, Job


def jobs(assets: Assets) -> list[Job]:
    """Return the jobs over these assets."""
    return []
