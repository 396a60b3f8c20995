"""How a dbt node looks in Dagster: key, group, owner, kinds, partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from granary.dagster.dagster_dbt_alone import DagsterDbtTranslator, DagsterDbtTranslatorSettings
from granary.dagster.links import Links, dashboard_pages
from granary.dbt.manifest_nodes import PUBLISHED, has_delta, is_mart, layer, materialization, meta, published

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dagster_dbt import DbtProject

OWNER = "team:analytics-engineering"
BUSINESS_DATE = "business_date"


class Translator(DagsterDbtTranslator):
    """Groups by layer, partitions the daily facts, and makes every dbt test an asset check, those of sources too."""

    def __init__(self, days: dg.PartitionsDefinition[str]) -> None:
        """Take the partitions of the daily facts, and from the environment where the pages for people are."""
        super().__init__(DagsterDbtTranslatorSettings(enable_source_tests_as_checks=True))
        self._days, self._pages = days, Links.load()

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
        spec = spec.merge_attributes(metadata=self._links(manifest, node))
        return spec.replace_attributes(
            group_name=layer(node),
            owners=spec.owners or [OWNER],
            kinds={"dbt", "postgres", materialization(node)},
            partitions_def=self._days if is_daily(node) else None,
        )

    def _links(self, manifest: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, dg.UrlMetadataValue]:
        """Return where people read of a mart, and see what is in it; each is named by the command that serves it.

        A relative address means nothing here and is left out.
        """
        places = {"documentation (granary docs)": self._pages.mart(str(node["name"]))} if is_mart(node) else {}
        if node["resource_type"] in ("model", "snapshot", "seed", "source"):
            places["column lineage (granary docs)"] = self._pages.lineage(published(node))
        for title, page in dashboard_pages(manifest, node["unique_id"]):
            places[f"{title.lower()} (granary dashboard)"] = self._pages.page(page)
        return {name: dg.MetadataValue.url(at) for name, at in places.items() if at.startswith(("http:", "https:"))}


def is_daily(node: Mapping[str, Any]) -> bool:
    """Return whether a node is a fact of daily partitions: one that overwrites whole business dates."""
    return has_delta(node) and meta(node).get("partition_by") == BUSINESS_DATE
