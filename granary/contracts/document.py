"""The contract of a mart, made from dbt's manifest: https://bitol-io.github.io/open-data-contract-standard/.

Only what a reader may rely on is in it: columns, types, keys, tests that a publish waits for, who may read it, how old
its data may be. How the mart is computed is not, so a model that is written anew and gives the same changes nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from granary.dbt.manifest_nodes import PUBLISHED, is_mart, meta
from granary.dbt.tiers import is_masked, tier

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Manifest = Mapping[str, Any]
    Node = Mapping[str, Any]
    Document = dict[str, Any]

VERSION_OF_STANDARD = "v3.2.0"
DEPRECATED_UNTIL = "deprecatedUntil"
"""The custom property with the last day for which a column is promised."""
MASKED = "masked"
LOGICAL = {
    "bigint": "integer", "boolean": "boolean", "date": "date", "double precision": "number", "integer": "integer",
    "json": "object", "jsonb": "object", "numeric": "number", "real": "number", "smallint": "integer",
    "time": "time",
}  # fmt: skip
"""Type of Postgres, without what is in brackets, to the standard's; text and everything else is a string."""
KEYS = ("unique", "unique_by_index", "unique_combination_of_columns")
OURS = ("has_declared_indexes", *KEYS, "not_null")
"""Tests that are said in another way, or that promise readers nothing."""
HOURS = {"minute": 1 / 60, "hour": 1, "day": 24}


def marts(manifest: Manifest) -> dict[str, Node]:
    """Return the project's marts by name."""
    mine = manifest["metadata"]["project_name"]
    found = (node for node in manifest["nodes"].values() if is_mart(node) and node["package_name"] == mine)
    return {str(node.get("alias") or node["name"]): node for node in sorted(found, key=lambda node: str(node["name"]))}


def document(manifest: Manifest, node: Node) -> Document:
    """Return the contract of a mart without a version, which the promises before it decide."""
    name = str(node.get("alias") or node["name"])
    project = manifest["metadata"]["project_name"]
    tests = _tests(manifest, node)
    key = _key(node, tests)
    ends = node.get("deprecation_date")
    made: Document = {
        "apiVersion": VERSION_OF_STANDARD,
        "kind": "DataContract",
        "id": f"{project}.{PUBLISHED}.{name}",
        "name": name,
        "version": "",
        "status": "deprecated" if ends else "active",
        "dataProduct": project,
        "description": {"purpose": _line(node["description"])},
        "schema": [
            {
                "name": name,
                "physicalName": f"{PUBLISHED}.{name}",
                "physicalType": "table",
                "logicalType": "object",
                **({"dataGranularityDescription": f"One row per {', '.join(key)}."} if key else {}),
                "properties": [_property(manifest, column, key, tests) for column in node["columns"].values()],
                **_some("quality", list(_quality(tests, key))),
            }
        ],
        **_team(manifest, node),
        "roles": list(_roles(node)),
        **_some("slaProperties", [*_latency(manifest, node), *_end(ends)]),
    }
    return made


def _line(text: str) -> str:
    return " ".join(str(text).split())


def _some(name: str, found: list[Any]) -> dict[str, list[Any]]:
    return {name: found} if found else {}


def _tests(manifest: Manifest, node: Node) -> list[Node]:
    """Return the tests of a mart that a publish waits for, by name."""
    return sorted(
        (
            test
            for test in manifest["nodes"].values()
            if test["resource_type"] == "test"
            and test.get("attached_node") == node["unique_id"]
            and str(test["config"].get("severity", "error")).lower() == "error"
        ),
        key=lambda test: str(test["name"]),
    )


def _generic(test: Node) -> tuple[str, dict[str, Any]]:
    """Return the name of a generic test and its arguments; '' for a test that is a query of its own."""
    found = test.get("test_metadata") or {}
    kwargs = {k: v for k, v in (found.get("kwargs") or {}).items() if k not in ("model", "column_name")}
    return str(found.get("name") or ""), kwargs


def _key(node: Node, tests: list[Node]) -> tuple[str, ...]:
    """Return the columns that identify a row: of the first unique index, or else of the first test that says so."""
    for index in meta(node).get("declared_indexes") or ():
        if index.get("unique"):
            return tuple(index["columns"])
    return next((columns for test in tests if (columns := _identifies(test))), ())


def _identifies(test: Node) -> tuple[str, ...]:
    """Return the columns that a test says to be unique together; none for another test."""
    name, arguments = _generic(test)
    if name not in KEYS:
        return ()
    return tuple(arguments.get("columns") or arguments.get("combination_of_columns") or (test["column_name"],))


def _property(manifest: Manifest, column: Node, key: tuple[str, ...], tests: list[Node]) -> Document:
    name, physical = str(column["name"]), str(column.get("data_type") or "text")
    mine = [test for test in tests if test.get("column_name") == name]
    logical = LOGICAL.get(re.sub(r"\s*\(.*\)", "", physical), "string")
    options: dict[str, Any] = {}
    if physical.startswith("timestamp"):
        logical, options = "timestamp", {"timezone": physical.endswith("with time zone") or physical == "timestamptz"}
    if physical.endswith("[]"):
        logical = "array"
    required = any(one["type"] == "not_null" for one in column.get("constraints") or ()) or any(
        _generic(test)[0] == "not_null" for test in mine
    )
    said: Document = {"name": name, "logicalType": logical, **({"logicalTypeOptions": options} if options else {})}
    said |= {"physicalType": physical, "required": required}
    if column.get("description"):
        said["description"] = _line(column["description"])
    if name in key:
        said |= {"primaryKey": True, "primaryKeyPosition": key.index(name) + 1}
    if any(_identifies(test) == (name,) for test in mine) or key == (name,):
        said["unique"] = True
    if tier(column):
        said["classification"] = str(tier(column))
    said |= _some("relationships", [{"to": to} for test in mine if (to := _leads_to(manifest, test))])
    said |= _some("quality", [_rule(test) for test in mine if _is_rule(test) and not _leads_to(manifest, test)])
    custom: dict[str, Any] = {MASKED: True} if is_masked(column) else {}
    if until := meta(column).get("deprecated"):
        said["deprecated"], custom[DEPRECATED_UNTIL] = True, str(until)
    return said | _some("customProperties", [{"property": k, "value": v} for k, v in custom.items()])


def _leads_to(manifest: Manifest, test: Node) -> str:
    """Return the column of another mart that has every value of this one, as `mart.column`."""
    name, arguments = _generic(test)
    known = marts(manifest)
    target = re.fullmatch(r"ref\('(\w+)'\)", str(arguments.get("to", "")))
    return f"{target[1]}.{arguments['field']}" if name == "relationships" and target and target[1] in known else ""


def _is_rule(test: Node) -> bool:
    return _generic(test)[0] not in OURS


def _quality(tests: list[Node], key: tuple[str, ...]) -> Iterator[Document]:
    """Yield the rules that are about the whole table."""
    for test in tests:
        columns = _identifies(test)
        if columns and columns != key and len(columns) > 1:
            rule = {"type": "library", "metric": "duplicateValues", "mustBe": 0}
            yield {"name": str(test["name"]), **rule, "arguments": {"properties": list(columns)}}
        elif not test.get("column_name") and _is_rule(test):
            yield _rule(test)


def _rule(test: Node) -> Document:
    """Return a test as a rule of the contract: in the standard's words where it has them, else as dbt runs it."""
    name, arguments = _generic(test)
    rule: Document = {"name": str(test["name"])}
    if name == "accepted_values":
        values = {"validValues": list(arguments["values"])}
        return rule | {"type": "library", "metric": "invalidValues", "mustBe": 0, "arguments": values}
    if says := _line(test.get("description") or ""):
        rule["description"] = says
    runs = {"test": name, "arguments": arguments} if name else str(test["name"])
    return rule | {"type": "custom", "engine": "dbt", "implementation": runs}


def _team(manifest: Manifest, node: Node) -> Document:
    """Return who is responsible: the group that dbt has of the model."""
    name = node.get("group") or node["config"].get("group")
    group = next((one for one in manifest.get("groups", {}).values() if one["name"] == name), None)
    if group is None:
        return {}
    owner = group["owner"]
    member = {"username": str(owner.get("email") or owner["name"]), "role": "owner"}
    said = {"name": str(name), "description": _line(group.get("description") or ""), "members": [member]}
    return {"team": {k: v for k, v in said.items() if v}}


def _roles(node: Node) -> Iterator[Document]:
    for role in node["config"].get("grants", {}).get("select") or ():
        yield {"role": str(role), "access": "read"}
    masks = any(is_masked(column) for column in node["columns"].values())
    says = {"description": "Sees masked columns without the mask."} if masks else {}
    for role in (meta(node).get("unmasked") or {}).get("select") or ():
        yield {"role": str(role), "access": "read", **says}


def _latency(manifest: Manifest, node: Node) -> Iterator[Document]:
    """Yield how old the newest data may be: what the slowest of its sources was agreed to take."""
    parents, seen, todo = manifest["parent_map"], set[str](), [str(node["unique_id"])]
    while todo:
        if (one := todo.pop()) not in seen:
            seen.add(one)
            todo += parents.get(one, ())
    hours = [
        after["count"] * HOURS[after["period"]]
        for one in seen & manifest["sources"].keys()
        if (after := (manifest["sources"][one].get("freshness") or {}).get("warn_after") or {}).get("count")
    ]
    if hours:
        says = "How long the slowest of its sources may bring nothing new."
        yield {"property": "latency", "value": round(max(hours)), "unit": "h", "description": says}


def _end(ends: object) -> Iterator[Document]:
    if ends:
        yield {"property": "endOfSupport", "value": str(ends)[:10]}
