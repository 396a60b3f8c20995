"""What an invocation of dbt took, node by node, out of what dbt says of it: its row of `ops.runs`, and its steps."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from granary.dbt import openlineage
from granary.dbt.failures import FAILED
from granary.dbt.manifest import MANIFEST, folder
from granary.dbt.manifest_nodes import has_delta, relation
from granary.warehouse import run_ledger
from granary.warehouse.connection import connect, query
from granary.warehouse.person import starter
from granary.warehouse.run_ledger import Run
from granary.warehouse.steps import Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from granary.warehouse.settings import Settings

TABLES = ("model", "seed", "snapshot")
STATUSES = {
    "success": "succeeded",
    "pass": "succeeded",
    "warn": "warned",
    "skipped": "skipped",
    "no-op": "skipped",
} | dict.fromkeys(FAILED, "failed")
WRITTEN_BY_MODEL = """
    select model, sum(rows_inserted)::bigint
    from ops.model_versions
    where invocation_id = $1
    group by model
"""
PUBLISH = "operation.granary.granary-on-run-end"
"""How the id of the hook begins that publishes."""
RESULTS = frozenset({"LogModelResult", "LogSnapshotResult", "LogSeedResult", "LogTestResult"})
"""Lines of dbt's log that say how a node ended."""
WRITTEN = re.compile(r"(?:SELECT|INSERT 0|MERGE) (\d+)")


def of_results(results: Mapping[str, Any], nodes: Mapping[str, Any]) -> Iterator[Step]:
    """Yield the steps of dbt's run_results.json; by `nodes`, sources included, tests have their table."""
    run_id = str(results["metadata"]["invocation_id"])
    is_full = bool(results.get("args", {}).get("full_refresh"))
    for result in results["results"]:
        kind, _, name, *_ = str(result["unique_id"]).split(".")
        if str(result["unique_id"]).startswith(PUBLISH):
            kind = name = "publish"
        if kind in (*TABLES, "test", "publish"):
            said = str(result.get("message") or "")
            about = str(result.get("relation_name") or "").replace('"', "").partition(".")[2] or None
            if kind == "test":
                about = tested(nodes.get(result["unique_id"], {}), nodes)
            rows = result.get("failures") if kind == "test" else rows_written(said)
            step = _step(run_id, kind, name, about, result, is_full=is_full)
            cause = run_ledger.cause_of(said) if said and step.status in ("failed", "warned") else None
            yield replace(step, row_count=rows, cause=cause)


def of_event(
    raw: Mapping[str, Any], manifest: Mapping[str, Any], build: str | None, *, is_full: bool
) -> Iterator[Step]:
    """Yield the step of a line of dbt's log, if it says that a table has been built."""
    info, data = raw["info"], raw["data"]
    node = manifest["nodes"].get(data.get("node_info", {}).get("unique_id"))
    if node is None or info["name"] not in RESULTS or node["resource_type"] not in TABLES:
        return
    if STATUSES.get(str(data["node_info"]["node_status"])) == "succeeded":
        kind, run_id = node["resource_type"], info["invocation_id"]
        step = _step(run_id, kind, node["name"], relation(node), data, is_full=is_full)
        yield replace(step, row_count=rows_written(str(data.get("status"))), status="succeeded", build=build)


def _step(run_id: str, kind: str, name: str, about: str | None, result: Mapping[str, Any], *, is_full: bool) -> Step:
    seconds = round(float(result.get("execution_time") or 0), 3)
    times = [
        moment(part[key])
        for part in result.get("timing") or ()
        for key in ("started_at", "completed_at")
        if part.get(key)
    ]
    status = STATUSES.get(str(result.get("status")), "failed")
    return Step(
        run_id, kind, name, about, is_full, seconds, None,
        started_at=min(times, default=None), finished_at=max(times, default=None), status=status,
    )  # fmt: skip


def tested(test: Mapping[str, Any], nodes: Mapping[str, Any]) -> str | None:
    """Return the relation that a test is about: that of the node that it is attached to, else the first it reads."""
    about = test.get("attached_node") or next(iter(test.get("depends_on", {}).get("nodes", ())), "")
    return relation(nodes[about]) if about in nodes else None


def rows_written(status: str) -> int | None:
    """Return how many rows a node has written, by what Postgres said of its statement; None if nothing of rows."""
    written = WRITTEN.fullmatch(status)
    return int(written[1]) if written else None


def moment(text: str) -> datetime:
    """Return a time as dbt writes it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def run_of(results: Mapping[str, Any], taken: Sequence[Step]) -> Run:
    """Return the row of an invocation of dbt, whose steps these are; what it took is that of this process."""
    metadata, arguments = results["metadata"], results.get("args", {})
    ended = moment(metadata["generated_at"])
    which, macro = str(arguments.get("which", "build")), str(arguments.get("macro", ""))
    is_publish = which == "run-operation"
    failed = next((step for step in taken if step.status == "failed"), None)
    others = [one for one in results["results"] if STATUSES.get(str(one["status"])) == "failed"]
    words = f"{failed.name}: {failed.cause}" if failed else str(others[0].get("message")) if others else ""
    began = metadata.get("invocation_started_at")
    return Run(
        run_id=str(metadata["invocation_id"]),
        kind="publish" if is_publish else "dbt",
        name=macro if is_publish else " ".join([which, *map(str, arguments.get("select") or ())])[:200],
        started_at=moment(began) if began else ended,
        finished_at=ended,
        status="failed" if failed or others else "succeeded",
        cause=run_ledger.cause_of(words) if words else None,
        row_count=sum(step.row_count or 0 for step in taken if step.kind in TABLES),
    )


def owned(manifest: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Yield who owns each table that dbt builds, by the owner of its group: rows of `ops.objectives`."""
    groups = manifest.get("groups", {}).values()
    owners = {one["name"]: one["owner"].get("name") or one["owner"].get("email") for one in groups}
    for node in manifest.get("nodes", {}).values():
        owner = owners.get(node.get("config", {}).get("group") or node.get("group"))
        if owner and node["resource_type"] in TABLES:
            yield {"relation": relation(node), "owner": str(owner)}


def keep_results(settings: Settings, path: Path, invocation: str, *, failed: bool) -> None:
    """Keep in the run ledger what this process, an invocation of dbt, has done, whose run_results.json this is.

    Where it left none, or another's is there, that it `failed` is all that is known (the project cannot be parsed).
    """
    results = _read(path)
    if results.get("metadata", {}).get("invocation_id") == invocation:
        # A process of a run writes none: that of its home is of the same project.
        manifest = _read(path.with_name(MANIFEST)) or _read(folder(settings) / MANIFEST)
        nodes = {**manifest.get("nodes", {}), **manifest.get("sources", {})}
        taken = counted(settings, invocation, list(of_results(results, nodes)), nodes)
        run = run_of(results, taken)
        run_ledger.keep_objectives(settings, list(owned(manifest)), role="transformer")
        openlineage.emit(settings, run, taken, manifest, path.parent)
    elif not failed:
        return
    else:
        now, log = datetime.now(timezone.utc), path.with_name("dbt.log")
        taken, run = [], Run(invocation, "dbt", "dbt", now, "failed", now, cause=f"it left no results: see {log.name}")
    mine = replace(
        run,
        started_by=starter(),
        parent_run_id=os.environ.get(run_ledger.RUN_ID),
        **vars(run_ledger.usage()),
    )
    run_ledger.keep(settings, [mine], taken, role="transformer")


def counted(settings: Settings, invocation: str, taken: list[Step], nodes: Mapping[str, Any]) -> list[Step]:
    """Return the steps, those of incremental models with the rows that they wrote: their statement says nothing of it.

    What they wrote is in `ops.model_versions`; one that is not there had nothing to write.
    """
    incremental = {relation(node) for node in nodes.values() if has_delta(node)}
    silent = [one for one in taken if one.relation in incremental and _wrote(one) and one.row_count is None]
    if not silent:
        return taken
    with run_ledger.warned("rows of incremental models"), connect(settings, role="transformer") as connection:
        run_ledger.briefly(connection)
        written = dict(query(connection, WRITTEN_BY_MODEL, invocation))
        return [replace(one, row_count=written.get(str(one.relation), 0)) if one in silent else one for one in taken]
    return taken


def _wrote(step: Step) -> bool:
    return step.kind == "model" and step.status == "succeeded"


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found
