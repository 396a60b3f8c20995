"""How a dbt node looks in Dagster: key, group, owner, kinds, partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    import dagster as dg
    from dagster_dbt import DbtProject

OWNER = "team:analytics-engineering"
DAILY = "daily"
"""dbt tag of the facts that overwrite whole business dates."""


class Translator(DagsterDbtTranslator):
    """Groups by layer, partitions the daily facts, and makes every dbt test an asset check, those of sources too."""

    def __init__(self, days: dg.PartitionsDefinition[str]) -> None:
        """Take the partitions of the daily facts."""
        super().__init__(DagsterDbtTranslatorSettings(enable_source_tests_as_checks=True))
        self._days = days

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        """Return the asset of a node."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        node = self.get_resource_props(manifest, unique_id)
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


def relation(node: Mapping[str, Any]) -> str:
    """Return a node's relation as `schema.name`."""
    return f"{node['schema']}.{node.get('identifier') or node.get('alias') or node['name']}"
