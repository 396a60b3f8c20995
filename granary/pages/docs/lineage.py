"""The page of columns: where each comes from, back to the raw columns, and what is made from it, up to the marts."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from granary.dbt.manifest_nodes import is_mart, layer, published
from granary.pages.docs.frame import HERE, LINEAGE, MARTS, frame, model
from granary.pages.html import embedded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.dagster.links import Links
    from granary.dbt.column_lineage import ColumnGraph

LAYERS = ("marts", "ops", "intermediate", "snapshots", "staging", "raw")
LEAD = (
    "Where a column comes from, back to the raw columns of the sources, and what is made from it, up to the marts. It"
    " is the way of values, read out of each model's SQL: what only decides which rows count (filters, joins, groups)"
    " is not in it. Each column has an address of its own: this page's, with <code>#schema.table.column</code>."
)


def page(manifest: Mapping[str, Any], catalog: Mapping[str, Any], graph: ColumnGraph, links: Links) -> str:
    """Return the page; its script draws the column that the address names."""
    nodes = {**manifest["sources"], **manifest["nodes"]}
    lacking = len(graph.unresolved)
    caption = "all are resolved" if not lacking else f"the origin of {lacking} is not known, and they say so"
    body = (
        f"<p>{len(graph.origins):,} columns: {caption}.</p>"
        "<noscript><p>This page is drawn by a script in this file: please allow it to run.</p></noscript>"
        '<form aria-label="Column"><div><label for="table">Table</label><select id="table" autocomplete="off">'
        f'{_options(graph, nodes)}</select></div><div><label for="column">Column</label>'
        '<select id="column" autocomplete="off"></select></div></form><div id="found" aria-live="polite"></div>'
    )
    script = (HERE / "lineage.js").read_text(encoding="utf-8")
    return frame(LINEAGE, "Column lineage", LEAD, body, links, script, embedded(data(nodes, catalog, graph)))


def data(nodes: Mapping[str, Any], catalog: Mapping[str, Any], graph: ColumnGraph) -> dict[str, Any]:
    """Return what the script draws: tables, columns in their order, and from each the numbers of its origins."""
    known = {**catalog["sources"], **catalog["nodes"]}
    columns = list(graph.origins)
    number = {column: place for place, column in enumerate(columns)}
    tables = list(dict.fromkeys(column.node for column in columns))
    place_of = {key: place for place, key in enumerate(tables)}
    return {
        "layers": LAYERS,
        "tables": [
            {
                "name": published(nodes[key]),
                "layer": _layer(nodes[key]),
                "kind": nodes[key]["resource_type"],
                "page": f"{MARTS}#{published(nodes[key]).partition('.')[2]}" if is_mart(nodes[key]) else model(key),
            }
            for key in tables
        ],
        "columns": [
            [
                place_of[column.node],
                column.name,
                known.get(column.node, {}).get("columns", {}).get(column.name, {}).get("type", ""),
                nodes[column.node]["columns"].get(column.name, {}).get("description", ""),
            ]
            for column in columns
        ],
        "origins": [[number[origin] for origin in graph.origins[column]] for column in columns],
        "unresolved": sorted(number[column] for column in graph.unresolved),
    }


def _layer(node: Mapping[str, Any]) -> str:
    """Return one of the layers; what is published is a mart, a source that is not a record of ours is raw."""
    if is_mart(node):
        return "marts"
    found = layer(node)
    return found if found in LAYERS else "raw"


def _options(graph: ColumnGraph, nodes: Mapping[str, Any]) -> str:
    tables = {column.node for column in graph.origins}
    return "".join(_group(name, sorted(key for key in tables if _layer(nodes[key]) == name), nodes) for name in LAYERS)


def _group(name: str, keys: Sequence[str], nodes: Mapping[str, Any]) -> str:
    names = sorted(escape(published(nodes[key])) for key in keys)
    return f'<optgroup label="{name}">{"".join(f"<option>{one}</option>" for one in names)}</optgroup>' if keys else ""
