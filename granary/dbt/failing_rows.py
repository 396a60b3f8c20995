"""Which loads, files and rows made a model fail: its query is tried again on ever fewer rows of what is new."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from granary.dbt.manifest_nodes import PUBLISHED, relation
from granary.warehouse.connection import connect, execute, query, quote_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

SECONDS = 60
"""How long the search for the rows of one model may take."""
NAMED = 3
"""Loads that are named where no row is found."""
ROLE = "transformer"
AUDIT = re.compile(r"\baudit: (\w+): ")
LOADS = """
    select load_id, unit from ops.load_audit
    where source = $1 and table_name = $2 and status = 'loaded' and superseded_by is null and rows_loaded > 0
    order by load_id desc
"""
UNPUBLISHED = """
    select loads.load_id, loads.source, loads.table_name, loads.unit
    from ops.load_audit as loads
    where loads.status = 'loaded' and loads.superseded_by is null and loads.rows_loaded > 0
        and loads.finished_at > coalesce(
            (select max(started_at) from ops.publishes where schema_name = $1), timestamptz '-infinity'
        )
    order by loads.load_id desc
"""


@dataclass(frozen=True)
class StagingView:
    """A staging view that a model reads, and the source table behind it."""

    relation: str
    quoted: re.Pattern[str]
    source: str
    table: str


def causes_of_failures(settings: Settings, target: Path, invocation: str) -> Iterator[str]:
    """Yield which load, file and row each model failed on that failed in a run of dbt.

    Args:
        settings: of the warehouse.
        target: where dbt left its artifacts; another run's are left alone.
        invocation: dbt's id of the run.
    """
    try:
        manifest, results = (json.loads((target / name).read_bytes()) for name in ("manifest.json", "run_results.json"))
    except FileNotFoundError:
        return
    if results["metadata"]["invocation_id"] != invocation:
        return
    for result in results["results"]:
        node = manifest["nodes"].get(result["unique_id"], {})
        failed = result["status"] == "error" and node.get("resource_type") in ("model", "snapshot")
        if failed and (found := cause_of_failure(settings, manifest, node, target, str(result["message"] or ""))):
            yield f"{node['resource_type']} {node['name']} failed on what it is made from: {found}"


def cause_of_failure(
    settings: Settings, manifest: Mapping[str, Any], node: Mapping[str, Any], target: Path, message: str
) -> str | None:
    """Return the load, file and row that a model failed on, else the loads that it met for the first time.

    Args:
        settings: of the warehouse.
        manifest: dbt's.
        node: the model or snapshot that failed.
        target: where dbt left the compiled project.
        message: why it failed, in dbt's words.

    Returns:
        A clause for people; None if nothing is new, or the warehouse does not answer.
    """
    path = target / "compiled" / node["package_name"] / node["original_file_path"]
    try:
        with connect(settings, role=ROLE) as connection:
            execute(connection, f"set statement_timeout = '{SECONDS}s'")
            connection.commit()
            if path.is_file():
                fails = probe(connection, manifest, node, path.read_text(), message)
                for view in staging_views(manifest, node):
                    if found := search(connection, view, fails):
                        return found
            return newest(connection, manifest, node)
    except psycopg.Error:
        return None


def staging_views(manifest: Mapping[str, Any], node: Mapping[str, Any]) -> Iterator[StagingView]:
    """Yield the staging views that a model reads itself, each over one source table."""
    for parent in node["depends_on"]["nodes"]:
        view = manifest["nodes"].get(parent)
        sources = [
            manifest["sources"][one] for one in manifest["parent_map"].get(parent, ()) if one in manifest["sources"]
        ]
        if (
            view
            and view["fqn"][1] == "staging"
            and len(sources) == 1
            and {"load_id", "load_row"} <= set(view["columns"])
        ):
            schema, name = relation(view).split(".", 1)
            quoted = re.compile(rf'(?:"[^"]+"\.)?"{re.escape(schema)}"\."{re.escape(name)}"(?P<alias>\s+as\b)?')
            yield StagingView(relation(view), quoted, sources[0]["source_name"], sources[0]["identifier"])


def probe(
    connection: Connection, manifest: Mapping[str, Any], node: Mapping[str, Any], sql: str, message: str
) -> Callable[[StagingView, str], bool]:
    """Return a function that says whether the model fails when a staging view has the rows of a condition only."""
    columns = [column for column in node["columns"].values() if column.get("data_type")]
    contract = node["config"].get("contract", {}).get("enforced") and columns
    names = ", ".join(quote_name(column["name"]) for column in columns) if contract else "*"
    shape = ", ".join(f"{quote_name(column['name'])} {column['data_type']}" for column in columns)
    bad = violation(manifest, message)

    def fails(view: StagingView, condition: str) -> bool:
        narrowed = f"(select * from {view.relation} where {condition})"
        again = view.quoted.sub(lambda found: narrowed + (found["alias"] or " as narrowed"), sql)
        try:
            if contract:
                execute(connection, f"create temporary table probed ({shape}) on commit drop")
                execute(connection, f"insert into probed ({names}) select {names} from (\n{again}\n) as made")
            else:
                execute(connection, f"create temporary table probed on commit drop as\n{again}")
            return bool(bad and query(connection, f"select 1 from probed where {bad} limit 1"))
        except psycopg.errors.QueryCanceled:
            raise
        except psycopg.Error:
            return bad is None
        finally:
            connection.rollback()

    return fails


def violation(manifest: Mapping[str, Any], message: str) -> str | None:
    """Return the condition of rows that break the test which an audit names; None if it was no audit of rows."""
    found = AUDIT.search(message)
    if not found:
        return None
    test: Mapping[str, Any] = next((one for one in manifest["nodes"].values() if one["name"] == found[1]), {})
    generic = test.get("test_metadata") or {}
    arguments = generic.get("kwargs", {})
    column = quote_name(str(arguments.get("column_name") or "_"))
    match generic.get("name"):
        case "not_null":
            broken = f"{column} is null"
        case "accepted_values":
            values = ", ".join("'" + str(value).replace("'", "''") + "'" for value in arguments["values"])
            broken = f"{column}::text not in ({values})"
        case "accepted_range":
            bounds = [f"{column} < {arguments['min_value']}"] if "min_value" in arguments else []
            bounds += [f"{column} > {arguments['max_value']}"] if "max_value" in arguments else []
            broken = " or ".join(bounds)
        case "expression_is_true":
            left = f"{column} " if arguments.get("column_name") else ""
            broken = f"not ({left}{arguments['expression']})"
        case _:
            return "false"
    where = test["config"].get("where")
    return f"({broken}) and ({where})" if where else broken


def search(connection: Connection, view: StagingView, fails: Callable[[StagingView, str], bool]) -> str | None:
    """Return the load and row of a staging view that a model fails on, or None if its rows are not the reason."""
    loads = dict(query(connection, LOADS, view.source, view.table))
    connection.rollback()
    if not loads or fails(view, "false"):
        return None

    def broken(some: Sequence[int]) -> bool:
        return fails(view, f"load_id = any('{{{', '.join(map(str, some))}}}'::bigint[])")

    ids, size = [int(load) for load in loads], 1
    while not broken(ids[:size]):  # the newest loads first: that is where the fault mostly is
        if size >= len(ids):
            return None
        size *= 2
    load = halved(ids[size // 2 if size > 1 else 0 : size], broken)
    (last,) = query(connection, f"select max(load_row)::bigint from {view.relation} where load_id = {load}")[0]
    connection.rollback()
    first, rest = 1, int(last)
    while first < rest:
        middle = (first + rest) // 2
        if fails(view, f"load_id = {load} and load_row between {first} and {middle}"):
            rest = middle
        else:
            first = middle + 1
    where = f"load {load} of {view.source}.{view.table}"
    alone = fails(view, f"load_id = {load} and load_row = {first}")
    return f"{loads[load]}, {f'row {first}, ' if alone else ''}{where}"


def halved(ids: Sequence[int], broken: Callable[[Sequence[int]], bool]) -> int:
    """Return the first of the loads that alone break a model which all of them together break."""
    while len(ids) > 1:
        half = ids[: len(ids) // 2]
        ids = half if broken(half) else ids[len(ids) // 2 :]
    return ids[0]


def newest(connection: Connection, manifest: Mapping[str, Any], node: Mapping[str, Any]) -> str | None:
    """Return the loads of the sources of a model that no publish has seen."""
    if query(connection, "select to_regclass('ops.publishes')::text") == [(None,)]:
        return None
    above = {(one["source_name"], one["identifier"]) for one in sources_of(manifest, node)}
    found = [
        f"{unit} (load {load} of {source}.{table})"
        for load, source, table, unit in query(connection, UNPUBLISHED, PUBLISHED)
        if (source, table) in above
    ]
    more = f" and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
    return f"new to it: {', '.join(found[:NAMED])}{more}" if found else None


def sources_of(manifest: Mapping[str, Any], node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the source tables that a node is made from, directly or not."""
    seen, waiting = set(), list(node["depends_on"]["nodes"])
    while waiting:
        parent = waiting.pop()
        if parent in seen:
            continue
        seen.add(parent)
        if parent in manifest["sources"]:
            yield manifest["sources"][parent]
        waiting += manifest["parent_map"].get(parent, ())
