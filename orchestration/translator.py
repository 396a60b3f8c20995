"""How a dbt node looks in Dagster: key, group, owner, kinds, partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dagster_dbt import DbtProject

OWNER = "team:analytics-engineering"
BUILT, PUBLISHED = "build", "marts"
"""The schema that dbt builds the marts in, and the one that they are published to."""
DAILY = "daily"
"""dbt tag of the facts that overwrite whole business dates."""


class Translator(DagsterDbtTranslator):
    """Groups by layer, partitions the daily facts, and makes every dbt test an asset check, those of sources too."""

    def __init__(self, days: dg.PartitionsDefinition[str]) -> None:
        """Take the partitions of the daily facts."""
        super().__init__(DagsterDbtTranslatorSettings(enable_source_tests_as_checks=True))
        self._days = days

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Return the key of a node: a mart's says where people read it, `marts/fct_sales`."""
        key = super().get_asset_key(dbt_resource_props)
        return dg.AssetKey([PUBLISHED, *key.path[1:]]) if is_mart(dbt_resource_props) else key

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        """Return the asset of a node."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        node = self.get_resource_props(manifest, unique_id)
        if is_mart(node):
            spec = spec.merge_attributes(metadata={"dagster/table_name": f"{node['database']}.{published(node)}"})
        return spec.replace_attributes(
            group_name=layer(node),
            owners=spec.owners or [OWNER],
            kinds={"dbt", "postgres", materialization(node)},
            partitions_def=self._days if is_daily(node) else None,
        )


def layer(node: Mapping[str, Any]) -> str:
    """Return the layer that a node is in: staging, intermediate, marts, ops, snapshots, seeds, or its system."""
    if node["resource_type"] == "model":
        return str(node["fqn"][1])
    return {"snapshot": "snapshots", "seed": "seeds"}.get(node["resource_type"], str(node.get("source_name", "other")))


def materialization(node: Mapping[str, Any]) -> str:
    """Return how a node is stored: view, table, incremental, snapshot, seed, or source."""
    return str(node.get("config", {}).get("materialized") or node["resource_type"])


def is_daily(node: Mapping[str, Any]) -> bool:
    """Return whether a node is a fact of daily partitions."""
    return node["resource_type"] == "model" and DAILY in node.get("tags", [])


def is_mart(node: Mapping[str, Any]) -> bool:
    """Return whether a node is built in one schema and published to another."""
    return node["resource_type"] in ("model", "seed") and node["config"].get("schema") == BUILT


def published_schema(node: Mapping[str, Any]) -> str:
    """Return the schema that a mart is published to: `marts`, or a developer's own (`dev_ada_marts`)."""
    return str(node["schema"]).removesuffix(BUILT) + PUBLISHED


def published(node: Mapping[str, Any]) -> str:
    """Return the table that people read of a mart, as `schema.name`."""
    return f"{published_schema(node)}.{relation(node).split('.')[1]}"


def relation(node: Mapping[str, Any]) -> str:
    """Return a node's relation as `schema.name`."""
    return f"{node['schema']}.{node.get('identifier') or node.get('alias') or node['name']}"
