"""Archived raw rows that the dbt step of a run needs: they come back when it says so, and move again after it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg

from granary.dbt import manifest as dbt_manifest
from granary.dbt.run_events import Event, Problem, emit
from granary.tiering import needed, run
from granary.warehouse.connection import failure
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from pathlib import Path

    import dagster as dg

    from granary.dbt.runner import BuildError
    from granary.warehouse.settings import Settings


def came_back(context: dg.AssetExecutionContext, settings: Settings, error: BuildError) -> bool:
    """Bring back what the step needs, by what it failed on; return whether that is worth another try.

    What cannot be brought back is one problem more of the step.
    """
    try:
        tables = needed.brought_back(settings, error.problems, say=_say)
    except (GranaryError, psycopg.Error) as found:
        told = found if isinstance(found, GranaryError) else failure(found, "the archive")
        error.problems.append(Problem(f"archived rows cannot come back: {told.what}", told.where, told.todo))
        return False
    if tables:
        path = _mark(context, settings)
        path.write_text(json.dumps(sorted({*_noted(path), *tables})))
    return bool(tables)


def move_again(context: dg.AssetExecutionContext, settings: Settings) -> None:
    """Archive again the tables of which rows came back in this run; what fails is left to the next `archive-raw`."""
    path = _mark(context, settings)
    tables = _noted(path)
    if not tables:
        return
    for one in run.moved_again(settings, tables, _say):
        context.log.warning(str(one))
        _say(str(one))
    path.unlink()


def _say(words: str) -> None:
    emit(Event("waiting", "dbt", "archive", detail=words))


def _mark(context: dg.AssetExecutionContext, settings: Settings) -> Path:
    return dbt_manifest.folder(settings) / "runs" / context.run.run_id / "came_back.json"


def _noted(path: Path) -> list[str]:
    return list(json.loads(path.read_text())) if path.exists() else []
