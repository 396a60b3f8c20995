"""What the nodes of a build took, out of what dbt says of them."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg

from granary.dbt.manifest_nodes import relation
from granary.warehouse import steps
from granary.warehouse.connection import connect
from granary.warehouse.errors import GranaryError
from granary.warehouse.steps import Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from granary.warehouse.settings import Settings

TABLES = ("model", "seed", "snapshot")
SLOW_TEST_SECONDS = 0.5
"""A test that takes less is not kept: there are hundreds."""
SUCCEEDED = frozenset({"success", "pass", "warn"})


RESULTS = frozenset({"LogModelResult", "LogSnapshotResult", "LogSeedResult", "LogTestResult"})
"""Lines of dbt's log that say how a node ended."""
WRITTEN = re.compile(r"(?:SELECT|INSERT 0|MERGE) (\d+)")


def of_results(results: Mapping[str, Any]) -> Iterator[Step]:
    """Yield the steps of dbt's run_results.json."""
    run_id = str(results["metadata"]["invocation_id"])
    is_full = bool(results.get("args", {}).get("full_refresh"))
    for result in results["results"]:
        name = str(result.get("relation_name") or "").replace('"', "").partition(".")[2]
        yield from _step(run_id, result, str(result["message"]), name, is_full=is_full)


def of_event(
    raw: Mapping[str, Any], manifest: Mapping[str, Any], build: str | None, *, is_full: bool
) -> Iterator[Step]:
    """Yield the step of a line of dbt's log, if it says that a node has succeeded."""
    info, data = raw["info"], raw["data"]
    node = manifest["nodes"].get(data.get("node_info", {}).get("unique_id"))
    if node is not None and info["name"] in RESULTS:
        result = {**data, "unique_id": node["unique_id"], "status": data["node_info"]["node_status"]}
        for step in _step(info["invocation_id"], result, str(data.get("status")), relation(node), is_full=is_full):
            yield replace(step, build=build)


def _step(run_id: str, result: Mapping[str, Any], said: str, where: str, *, is_full: bool) -> Iterator[Step]:
    kind, _, name, *_ = str(result["unique_id"]).split(".")
    seconds = float(result.get("execution_time") or 0)
    if str(result["status"]) in SUCCEEDED and (kind in TABLES or (kind == "test" and seconds >= SLOW_TEST_SECONDS)):
        table = where if kind in TABLES else None
        yield Step(run_id, kind, name, table, is_full, round(seconds, 3), rows_written(said))


def rows_written(status: str) -> int | None:
    """Return how many rows a node has written, by what Postgres said of its statement; None if nothing of rows."""
    written = WRITTEN.fullmatch(status)
    return int(written[1]) if written else None


def keep_results(settings: Settings, path: Path, invocation: str = "") -> None:
    """Keep what the nodes of a build took, whose run_results.json this is.

    Without one, or a warehouse, nothing is kept; nor if it is of another invocation of dbt than this, if one is given.
    """
    with suppress(OSError, ValueError, KeyError, GranaryError, psycopg.Error):
        results = json.loads(path.read_bytes())
        if invocation and results["metadata"]["invocation_id"] != invocation:
            return
        found = list(of_results(results))
        with connect(settings, role="transformer") as connection:
            steps.keep(connection, found)
            connection.commit()
