"""Finds the tables of a Singer tap or a dlt source, by what it announces and by its first rows."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from granary.readers.connectors.catalog import find as stream_of
from granary.readers.connectors.process import SECRET
from granary.readers.connectors.sample import look
from granary.readers.singer import dlt_source, singer
from granary.scaffold.names import check_source
from granary.scaffold.plan import Found, Opening, PlannedSource, plan
from granary.scaffold.python_text import Group, literal
from granary.sources.units import UnreachableError
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.readers.connectors.reader import ConnectorReader

ROWS = 20_000
FRESHNESS = timedelta(hours=36)


def inspect(
    name: str,
    config: Path,
    *,
    tap: str = "",
    function: str = "",
    only: Sequence[str] = (),
    keys: Mapping[str, tuple[str, ...]] | None = None,
    cursors: Mapping[str, str] | None = None,
    words: Mapping[str, tuple[str, ...]] | None = None,
) -> PlannedSource:
    """Run a connector for a look at each of its streams, and decide on everything that is to be written.

    Args:
        name: the new source.
        config: the JSON file with the connector's configuration; its secrets become settings.
        tap: the tap, or
        function: the function of a dlt source.
        only: the streams to take; none of them means all.
        keys: keys that a person gave, by table ("" for any).
        cursors: likewise the properties past which the tap is to read.
        words: likewise words that stand for no value.

    Raises:
        GranaryError: the configuration is none, the connector fails, or has nothing that can be loaded.
    """
    check_source(name)
    written, settings = apart(name, _read(config))
    path = f"connectors/{name}.json"
    said = tap or function
    reader = singer(tap, written, settings) if tap else dlt_source(function, written, settings)
    reader.hide(tuple(settings.values()))
    opening = Opening(
        imports=(f"from granary.readers.singer import {'singer' if tap else 'dlt_source'}",),
        expression=Group("singer" if tap else "dlt_source", (literal(said), literal(path), "settings")),
        settings=settings,
        files={path: json.dumps(written, indent=2, ensure_ascii=False) + "\n"},
    )
    found, skipped = _found(reader, only)
    return plan(name, "singer" if tap else "dlt", opening, found, keys, cursors, skipped, words)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GranaryError(f"the configuration cannot be read: {error.strerror}", str(path), "name its file") from None
    except ValueError as error:
        raise GranaryError(f"the configuration is not JSON: {error}", str(path), "correct it") from None
    if not isinstance(found, dict):
        raise GranaryError("the configuration is no object", str(path), "write {…}")
    return found


def apart(name: str, config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Take the secrets out of a configuration: what is named like one, and addresses with a password in them.

    Returns:
        The configuration with names of settings in their place, and the settings.
    """
    settings: dict[str, str] = {}

    def kept(value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, dict):
            return {key: kept(inner, (*path, str(key))) for key, inner in value.items()}
        if isinstance(value, list):
            return [kept(inner, (*path, str(place))) for place, inner in enumerate(value, 1)]
        if isinstance(value, str) and value and (SECRET.search(_named(path)) or _has_password(value)):
            words = "_".join("".join(c if c.isascii() and c.isalnum() else "_" for c in part) for part in path)
            setting = f"GRANARY_{name}_{words}".upper()
            settings[setting] = value
            return f"${{{setting}}}"
        return value

    return {key: kept(value, (str(key),)) for key, value in config.items()}, settings


def _named(path: Sequence[str]) -> str:
    return next((part for part in reversed(path) if not part.isdigit()), "")


def _has_password(value: str) -> bool:
    try:
        return "://" in value and urlsplit(value).password is not None
    except ValueError:
        return False


def _found(reader: ConnectorReader, only: Sequence[str]) -> tuple[list[Found], list[str]]:
    """Return the tables, and what was left out."""
    names = [stream_of(reader.streams, one, reader.name)["tap_stream_id"] for one in only]
    found, skipped = [], []
    for stream in names or [entry["tap_stream_id"] for entry in reader.streams]:
        try:
            seen = look(reader, stream, ROWS)
        except UnreachableError as error:
            if names or len(reader.streams) == 1:
                raise
            skipped.append(f"{stream}: {error.what}")
            continue
        notes = () if seen.key else ("the stream declares no key: each load replaces all of its rows",)
        table = Found(
            name=stream,
            location=stream,
            sample=seen.rows,
            freshness=FRESHNESS,
            complete=seen.complete,
            key=seen.key,
            cursor=seen.cursor if seen.key else None,
            whole=not seen.key,
            snapshot=True,
            notes=notes,
        )
        found.append(table)
    return found, skipped
