"""How runs of dbt end, as far as the replay of a year needs it: kept by the functions of `ops` that dbt calls."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from granary.dbt import manifest as dbt_manifest
from granary.dbt.manifest_nodes import is_mart
from granary.warehouse import run_ledger
from granary.warehouse.connection import connect, execute
from granary.warehouse.steps import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from granary.warehouse.settings import Settings

    Move = Callable[[datetime], None]

BUILT = ("model", "seed", "snapshot", "test")
PUBLISH = """
    insert into ops.publishes
        (schema_name, invocation_id, started_at, finished_at, marts, rows_inserted, rows_deleted, loads_seen)
    select
        'marts', $1, clock_timestamp(), clock_timestamp(), $2, 1, 0, coalesce(jsonb_object_agg(source, load_id), '{}')
    from (select source, max(load_id) as load_id from ops.load_audit where status = 'loaded' group by source) as newest
"""
WHOLE = """
    insert into ops.whole_builds (fingerprint, loads, publish_id)
    select 'project', loads_seen, publish_id from ops.publishes order by publish_id desc limit 1
    on conflict (fingerprint) do update
    set loads = excluded.loads, publish_id = excluded.publish_id, built_at = clock_timestamp()
"""


@dataclass
class Builds:
    """The runs of dbt of a warehouse. `failing` are nodes by name and how they end; what follows is skipped.

    `takes` is how long after the loads what was built is published; `dies` says that a run ends without a word, and
    `rests` that nobody runs it.
    """

    settings: Settings
    nodes: Mapping[str, Mapping[str, Any]] = field(init=False)
    below: Mapping[str, list[str]] = field(init=False)
    failing: dict[str, str] = field(default_factory=dict)
    takes: timedelta = timedelta(seconds=60)
    dies: bool = False
    rests: bool = False
    held: bool = False
    """Whether something holds publishing since an earlier run. Where nothing does, and all succeeds, none is named."""

    def __post_init__(self) -> None:
        """Read the project."""
        manifest = dbt_manifest.load(dbt_manifest.prepare(self.settings))
        self.nodes = {
            unique_id: node for unique_id, node in manifest["nodes"].items() if node["resource_type"] in BUILT
        }
        self.below = manifest["child_map"]

    def run(self, at: datetime, move: Move) -> datetime:
        """Have a run begin and end, and publish what it built; return when it was over."""
        if self.rests:
            return at
        invocation = str(uuid4())
        is_eventful = bool(self.failing or self.dies or self.held)
        results = self.results() if is_eventful else {}
        nodes = self.nodes if is_eventful else {}
        self.held = bool(self.failing or self.dies)
        doc = {
            "schema": "marts",
            "invocation": invocation,
            "command": "build",
            "empty": False,
            "selected": list(nodes),
            "nodes": [self._node(unique_id, node) for unique_id, node in nodes.items()],
        }
        self._call("ops.hold_publishing", doc)
        if self.dies:
            move(at)
            return at
        ended = doc | {
            "results": [
                {"id": unique_id, "name": self.nodes[unique_id]["name"], "status": status, "rows": 1}
                for unique_id, status in results.items()
            ]
        }
        self._call("ops.settle_holds", ended)
        self._call("ops.record_build", ended)
        if is_eventful:
            run_ledger.keep(self.settings, (), self._steps(invocation, results), role="transformer")
        move(at)
        if not self.failing:
            with connect(self.settings) as connection:
                marts = sorted(node["name"] for node in self.nodes.values() if is_mart(node))
                execute(connection, PUBLISH, invocation, marts)
                execute(connection, WHOLE)
                connection.commit()
            at += self.takes
            move(at)
        return at

    def results(self) -> dict[str, str]:
        """Return how each node ends: those below one that fails are skipped."""
        failing = {key: self.failing[node["name"]] for key, node in self.nodes.items() if node["name"] in self.failing}
        skipped: set[str] = set()
        todo = [child for key in failing for child in self._stopped_by(key)]
        while todo:
            one = todo.pop()
            if one in self.nodes and one not in skipped:
                skipped.add(one)
                todo += self._stopped_by(one)
        return {
            key: failing.get(key)
            or ("skipped" if key in skipped else "pass" if node["resource_type"] == "test" else "success")
            for key, node in self.nodes.items()
        }

    def _stopped_by(self, unique_id: str) -> list[str]:
        """Return what does not run if a node fails; after a test, what its model is read by."""
        tested = self.nodes[unique_id].get("attached_node")
        return [one for one in self.below.get(tested or unique_id, ()) if not (tested and one.startswith("test."))]

    def _steps(self, invocation: str, results: Mapping[str, str]) -> Iterable[Step]:
        ends = {"skipped": "skipped", "error": "failed", "fail": "failed"}
        for unique_id, status in results.items():
            node = self.nodes[unique_id]
            kind = "test" if node["resource_type"] == "test" else "model"
            tested = self.nodes.get(node.get("attached_node") or "")
            of = tested or node
            relation = f"{of['schema']}.{of['name']}" if kind == "model" or tested else None
            yield Step(invocation, kind, node["name"], relation, False, 1.0, 1, status=ends.get(status, "succeeded"))

    @staticmethod
    def _node(unique_id: str, node: Mapping[str, Any]) -> dict[str, Any]:
        config = node["config"]
        return {
            "id": unique_id,
            "name": node["name"],
            "kind": node["resource_type"],
            "materialized": config.get("materialized"),
            "blocks": node["resource_type"] == "test" and str(config.get("severity", "error")).lower() == "error",
        }

    def _call(self, function: str, doc: Mapping[str, Any]) -> None:
        with connect(self.settings) as connection:
            execute(connection, f"select {function}($1::jsonb)", json.dumps(doc))
            connection.commit()
