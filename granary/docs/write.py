"""Writes the pages into the folder where dbt left its documentation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from granary.docs import diagram, lineage
from granary.docs.frame import LINEAGE, MARTS
from granary.docs.marts import marts
from orchestration.addresses import DAGSTER, DASHBOARD
from orchestration.columns import column_graph

if TYPE_CHECKING:
    from pathlib import Path

    from orchestration.addresses import Addresses

NAMES = (MARTS, LINEAGE)


def write_pages(folder: Path, addresses: Addresses) -> None:
    """Write the pages, and have the addresses in dbt's own page be the configured ones.

    `folder` holds what `dbt docs generate --static` wrote.
    """
    manifest = json.loads((folder / "manifest.json").read_bytes())
    catalog = json.loads((folder / "catalog.json").read_bytes())
    graph = column_graph(manifest, catalog)
    _write(folder / MARTS, diagram.page(marts(manifest, catalog, graph), addresses))
    _write(folder / LINEAGE, lineage.page(manifest, catalog, graph, addresses))
    index = folder / "static_index.html"
    text = index.read_text(encoding="utf-8")
    moved = text
    for usual, now in ((DASHBOARD, addresses.dashboard), (DAGSTER, addresses.dagster)):
        moved = moved.replace(usual, json.dumps(now or usual)[1:-1])  # both are within JSON there
    if moved != text:
        _write(index, moved)


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
