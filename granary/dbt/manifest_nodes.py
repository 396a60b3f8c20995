"""What a node of dbt's manifest is, and where its relation is; nothing of Dagster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BUILT, PUBLISHED, PERSONAL, HISTORY = "build", "marts", "personal", "publish_history"
"""The schema that dbt builds the marts in, the one that they are published to, the one with the tables behind those
published marts that mask personal columns, and the one with the rows that publishes changed."""
DELTA = "__delta"
FRESH, STREAM = "fresh", "__stream"
"""The schema of the models that a stream computes, and how the table with what it computed ends there."""


def layer(node: Mapping[str, Any]) -> str:
    """Return the layer that a node is in: staging, intermediate, marts, ops, snapshots, seeds, or its system."""
    if node["resource_type"] == "model":
        return str(node["fqn"][1])
    return {"snapshot": "snapshots", "seed": "seeds"}.get(node["resource_type"], str(node.get("source_name", "other")))


def materialization(node: Mapping[str, Any]) -> str:
    """Return how a node is stored: view, table, incremental, snapshot, seed, or source."""
    return str(node.get("config", {}).get("materialized") or node["resource_type"])


def has_delta(node: Mapping[str, Any]) -> bool:
    """Return whether a node keeps the rows in which its versions differ, in a table of its name and `DELTA`."""
    return bool(node.get("config", {}).get("incremental_strategy") == "overwrite_partitions")


def meta(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the project keeps of a node or a column for itself; dbt writes it in one of two places."""
    found: Mapping[str, Any] = part.get("config", {}).get("meta") or part.get("meta") or {}
    return found


def is_mart(node: Mapping[str, Any]) -> bool:
    """Return whether a node is built in one schema and published to another."""
    return node["resource_type"] in ("model", "seed") and node["config"].get("schema") == BUILT


def published_schema(node: Mapping[str, Any]) -> str:
    """Return the schema that a mart is published to: `marts`, or a developer's own (`dev_ada_marts`)."""
    return str(node["schema"]).removesuffix(BUILT) + PUBLISHED


def marts_schema(nodes: Iterable[Mapping[str, Any]]) -> str:
    """Return the schema that the marts among these nodes are published to."""
    return next((published_schema(node) for node in nodes if is_mart(node)), PUBLISHED)


def schemas(node: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the schemas that hold the rows of a node: of a mart also the published ones, and what changed there."""
    built = str(node["schema"])
    prefix = built.removesuffix(BUILT)
    return (built, *(prefix + name for name in (PUBLISHED, PERSONAL, HISTORY))) if is_mart(node) else (built,)


def relation(node: Mapping[str, Any]) -> str:
    """Return the relation that dbt builds of a node, as `schema.name`."""
    return f"{node['schema']}.{_name(node)}"


def published(node: Mapping[str, Any]) -> str:
    """Return the relation that people read of a node, as `schema.name`: of a mart the published one."""
    return f"{published_schema(node)}.{_name(node)}" if is_mart(node) else relation(node)


def _name(node: Mapping[str, Any]) -> str:
    return str(node.get("identifier") or node.get("alias") or node["name"])
