"""What a tap offers (its catalogue, by `--discover`), and the choice of one stream of it."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

from granary.warehouse.errors import GranaryError, unknown

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from granary.sources.spec import Table


def parse(text: bytes, tap: str) -> list[dict[str, Any]]:
    """Return the entries of a catalogue.

    Raises:
        GranaryError: it is none.
    """
    try:
        entries = json.loads(text)["streams"]
        if all(isinstance(entry["tap_stream_id"], str) and isinstance(entry, dict) for entry in entries):
            return list(entries)
    except (ValueError, KeyError, TypeError):
        pass
    raise GranaryError("what --discover printed is no catalogue of streams", tap, "is it a Singer tap?")


def names_of(entry: Mapping[str, Any]) -> set[str]:
    """Return the names by which a stream goes in messages."""
    return {entry["tap_stream_id"], entry.get("stream") or entry["tap_stream_id"]}


def find(entries: Collection[dict[str, Any]], stream: str, tap: str) -> dict[str, Any]:
    """Return the entry of a stream.

    Raises:
        GranaryError: there is none.
    """
    for entry in entries:
        if stream in names_of(entry):
            return entry
    known = [entry["tap_stream_id"] for entry in entries]
    some = ", ".join(known[:12]) + (" and others" if len(known) > 12 else "")  # noqa: PLR2004
    raise unknown("stream", stream, known, tap, todo=f"it has {some or 'none'}")


def chosen(
    entries: Collection[dict[str, Any]],
    table: Table,
    needs: Collection[str],
    metadata: Mapping[str, Any],
    tap: str,
) -> dict[str, Any]:
    """Return a catalogue in which one stream is selected, with all of its properties, and those that it needs.

    A table that is read past a cursor has the tap do the same; one that is read whole has it read whole, where the tap
    leaves that open.

    Raises:
        GranaryError: one of the streams is none.
    """
    wanted = find(entries, table.location, tap)
    selected = {id(wanted), *(id(find(entries, name, tap)) for name in needs)}
    made = []
    for entry in entries:
        new = copy.deepcopy(entry)
        _select(new, is_wanted=id(entry) in selected)
        if entry is wanted:
            _replicate(new, table, metadata)
        made.append(new)
    return {"streams": made}


def _select(entry: dict[str, Any], *, is_wanted: bool) -> None:
    entry["selected"] = is_wanted
    known = entry.get("metadata") or []
    parts = {tuple(part["breadcrumb"]): part.setdefault("metadata", {}) for part in known}
    root = _root(entry)
    root["selected"] = is_wanted
    for name in (entry.get("schema") or {}).get("properties") or {}:
        part = parts.get(("properties", name))
        if part is None:
            part = {}
            entry["metadata"].append({"breadcrumb": ["properties", name], "metadata": part})
        if part.get("inclusion") != "unsupported":
            part["selected"] = is_wanted


def _root(entry: dict[str, Any]) -> dict[str, Any]:
    parts = entry.setdefault("metadata", [])
    for part in parts:
        if not part["breadcrumb"]:
            return dict.__getitem__(part, "metadata")
    made: dict[str, Any] = {}
    parts.append({"breadcrumb": [], "metadata": made})
    return made


def _replicate(entry: dict[str, Any], table: Table, metadata: Mapping[str, Any]) -> None:
    root = _root(entry)
    method = entry.get("replication_method") or root.get("replication-method") or root.get("forced-replication-method")
    said: dict[str, Any] = {}
    if table.cursor and table.disposition in ("merge", "append") and method in (None, "", "FULL_TABLE", "INCREMENTAL"):
        column = table.column(table.cursor)
        properties = (entry.get("schema") or {}).get("properties") or {}
        key = next((name for name in (column.name, *column.aliases) if name in properties), column.name)
        said = {"replication-method": "INCREMENTAL", "replication-key": key}
    elif not method:
        said = {"replication-method": "FULL_TABLE"}
    for name, value in (said | dict(metadata)).items():
        root[name] = value
        entry[name.replace("-", "_")] = value
