"""What is declared and tested of the marts: their grain, columns, and how they join. Plain data; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granary.dagster.links import dashboard_pages
from granary.dbt.column_lineage import Column
from granary.dbt.manifest_nodes import is_mart, meta, published

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from granary.dbt.column_lineage import ColumnGraph

JOINS = ("relationships", "members_known")
"""Generic tests that say: each value of this column is in that one."""


@dataclass(frozen=True)
class Field:
    """A column of a mart."""

    name: str
    type: str
    description: str


@dataclass(frozen=True)
class Join:
    """A column that leads to a column of another mart, whose values hold its own."""

    column: str
    mart: str
    field: str
    test: str
    """The test that says so: of this column, or, if `inherited`, of that it is taken from; empty if that is `field`."""
    inherited: bool = False
    is_one: bool = True
    """Whether a value is in one row of the other mart only."""
    is_single: bool = False
    """Whether a value is in one row of this mart only."""


@dataclass(frozen=True)
class Mart:
    """A mart as people read it."""

    id: str
    name: str
    area: str
    description: str
    grain: tuple[str, ...]
    fields: tuple[Field, ...]
    joins: tuple[Join, ...]
    made_from: tuple[str, ...]
    """Marts that its values are taken from, through whatever lies between."""
    pages: tuple[tuple[str, str], ...]
    """Title and file name of the dashboard's pages that show it."""

    @property
    def is_fact(self) -> bool:
        """Whether it is a fact of the core."""
        return self.name.startswith("fct_")

    @property
    def is_dimension(self) -> bool:
        """Whether it is a dimension of the core."""
        return self.name.startswith("dim_")


def marts(manifest: Mapping[str, Any], catalog: Mapping[str, Any], graph: ColumnGraph) -> list[Mart]:
    """Return every mart by area: in the core the facts first, those that join most; then in the alphabet."""
    nodes = {key: node for key, node in manifest["nodes"].items() if is_mart(node)}
    tested = _tested(manifest, nodes)
    unique = {key: _unique(manifest, key) for key in nodes}
    found = [_mart(manifest, catalog, graph, key, tested, unique) for key in nodes]
    return sorted(found, key=_place)


def _place(mart: Mart) -> tuple[int, str, bool, int, int, str]:
    """Return what marts are sorted by: the core comes first, what is only referred to last."""
    area = {"core": 0, "reference": 2}.get(mart.area, 1)
    joins, fields = (-len(mart.joins), -len(mart.fields)) if mart.is_fact else (0, 0)
    return area, mart.area, mart.is_dimension, joins, fields, mart.name


def _mart(
    manifest: Mapping[str, Any],
    catalog: Mapping[str, Any],
    graph: ColumnGraph,
    key: str,
    tested: Mapping[Column, tuple[Column, str]],
    unique: Mapping[str, list[tuple[str, ...]]],
) -> Mart:
    node = manifest["nodes"][key]
    stored = catalog["nodes"].get(key, {}).get("columns", {})
    fields = tuple(
        Field(name, str(stored.get(name, {}).get("type") or column["data_type"]), str(column["description"]))
        for name, column in node["columns"].items()
    )
    keys = unique[key]
    joins = []
    for field in fields:
        target, test, inherited = _leads_to(Column(key, field.name), tested, unique, graph)
        if target is not None:
            is_one = (target.name,) in unique[target.node]
            name = str(manifest["nodes"][target.node]["name"])
            joins.append(Join(field.name, name, target.name, test, inherited, is_one, (field.name,) in keys))
    made_from = {one for field in fields for one in _made_from(Column(key, field.name), manifest["nodes"], graph)}
    return Mart(
        id=key,
        name=published(node).partition(".")[2],
        area=str(node["fqn"][2]) if node["resource_type"] == "model" else "reference",
        description=str(node["description"]),
        grain=keys[0] if keys else (),
        fields=fields,
        joins=tuple(joins),
        made_from=tuple(sorted(made_from - {str(node["name"])})),
        pages=tuple(dashboard_pages(manifest, key)),
    )


def _tested(manifest: Mapping[str, Any], nodes: Mapping[str, Any]) -> dict[Column, tuple[Column, str]]:
    """Return the columns that a test leads to a column of another mart, with that one and the test's name."""
    found = {}
    for test in manifest["nodes"].values():
        generic = test.get("test_metadata") or {}
        if generic.get("name") not in JOINS or test.get("attached_node") not in nodes:
            continue
        arguments = generic["kwargs"]
        named = re.search(r"'(\w+)'\s*\)\s*$", str(arguments["to"]))
        to = [one for one in test["depends_on"]["nodes"] if named and manifest["nodes"][one]["name"] == named[1]]
        if to and to[0] in nodes:
            column = Column(test["attached_node"], str(arguments["column_name"]))
            found[column] = (Column(to[0], str(arguments["field"])), str(test["name"]))
    return found


def _leads_to(
    column: Column,
    tested: Mapping[Column, tuple[Column, str]],
    unique: Mapping[str, list[tuple[str, ...]]],
    graph: ColumnGraph,
) -> tuple[Column | None, str, bool]:
    """Return where a column leads, the test that says so, and whether that is a test of the column it is taken from.

    A column with one origin of the same name holds no other values than that. So what is tested there holds here; and
    if that is the key of a mart, it leads there without any test.
    """
    inherited = False
    while column not in tested:
        origins = graph.origins.get(column, ())
        if len(origins) != 1 or origins[0].name != column.name:
            return None, "", False
        column, inherited = origins[0], True
        if (column.name,) in unique.get(column.node, ()):
            return column, "", True
    target, test = tested[column]
    return target, test, inherited


def _unique(manifest: Mapping[str, Any], key: str) -> list[tuple[str, ...]]:
    """Return the columns that are unique together: of declared indexes, and of tests; the grain comes first."""
    indexes = meta(manifest["nodes"][key]).get("declared_indexes", [])
    found = [tuple(index["columns"]) for index in indexes if index.get("unique")]
    for test in manifest["nodes"].values():
        if test.get("attached_node") == key and (generic := test.get("test_metadata")):
            together = generic["kwargs"].get("combination_of_columns")
            alone = generic["kwargs"].get("column_name") if generic["name"] == "unique" else None
            found += [tuple(together)] if together else [(alone,)] if alone else []
    return list(dict.fromkeys(found))


def _made_from(column: Column, nodes: Mapping[str, Any], graph: ColumnGraph) -> Iterator[str]:
    """Yield the marts that a column is taken from, through whatever lies between."""
    for origin in graph.origins.get(column, ()):
        if origin.node in nodes and is_mart(nodes[origin.node]):
            yield str(nodes[origin.node]["name"])
        else:
            yield from _made_from(origin, nodes, graph)
