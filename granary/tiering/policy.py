"""Whether raw rows may leave Postgres: no model may need all of them again, and each must have had them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granary.dbt.manifest_nodes import has_delta, is_mart, materialization, meta, relation
from granary.warehouse.connection import query
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from granary.warehouse.connection import Connection

VIEWS = ("view", "ephemeral")
ADDING = ("append", "merge")
"""Strategies by which an incremental model keeps what it does not read again."""
SEEN = """
    select model, load_id from ops.model_watermarks
    where source = $1 and split_part(model, '.', 2) = any($2::text[])
        and to_regclass(format('%I.%I', split_part(model, '.', 1), split_part(model, '.', 2))) is not null
"""


@dataclass(frozen=True)
class Readers:
    """The models that read a raw table, by itself or by views, and why rows of it may not leave, if one says so."""

    names: frozenset[str]
    refusals: tuple[str, ...]


def readers(manifest: Mapping[str, Any], source: str, table: str) -> Readers:
    """Return who reads a raw table in dbt's project."""
    names, refusals, seen = set[str](), list[str](), set[str]()
    waiting = [
        node_id
        for node_id, node in manifest["sources"].items()
        if node["schema"] == f"raw_{source}" and node["identifier"] == table
    ]
    while waiting:
        for child in manifest["child_map"].get(waiting.pop(), ()):
            node = manifest["nodes"].get(child)
            if child in seen or node is None or node["resource_type"] not in ("model", "snapshot"):
                continue
            seen.add(child)
            refusals += _refusals(node)
            if materialization(node) in VIEWS:
                waiting.append(child)
            else:
                names.add(relation(node).partition(".")[2])
    return Readers(frozenset(names), tuple(sorted(refusals)))


def _refusals(node: Mapping[str, Any]) -> Iterator[str]:
    """Say why a model needs all raw rows."""
    name, kind, strategy = node["name"], materialization(node), node["config"].get("incremental_strategy")
    if kind in VIEWS:
        if is_mart(node):
            yield f"people read raw rows by the mart {name}, which is a view"
    elif node["resource_type"] == "snapshot":
        yield f"the snapshot {name} compares all raw rows with what it has"
    elif kind != "incremental":
        yield f"{name} is built whole by each run ({kind})"
    elif has_delta(node) and "changes" not in meta(node):
        yield f"{name} computes all of its rows in each run: it names no log of changes (meta.changes)"
    elif not has_delta(node) and strategy not in ADDING:
        yield f"{name} replaces rows by the strategy {strategy or 'of its adapter'}, and no log says of which loads"


def newest_seen(connection: Connection, source: str, table: str, found: Readers) -> int | None:
    """Return the highest load that all readers have; None where nobody reads the table.

    Raises:
        GranaryError: a reader needs all rows, or does not say which loads it has.
    """
    place = f"{source}.{table}"
    if found.refusals:
        todo = "leave archive_after out of the contract, or read by partition in those models (`granary guide archive`)"
        raise GranaryError(f"its rows cannot leave Postgres: {'; '.join(found.refusals)}", place, todo)
    rows = query(connection, SEEN, source, sorted(found.names))
    unknown = sorted(found.names - {str(model).partition(".")[2] for model, _ in rows})
    if unknown:
        todo = "build it (`granary run`); a model that reads loads keeps a watermark (`granary guide increments`)"
        raise GranaryError(f"nobody knows which loads {unknown[0]} has", place, todo)
    return min((int(load_id) for _, load_id in rows), default=None)
