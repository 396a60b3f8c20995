"""Runs one resource of a dlt source in the environment of a connector, a program by itself, and speaks as a tap does.

`dlt_runner.py FOLDER MODULE:FUNCTION --config FILE [--catalog FILE] [--state FILE]`, or `--discover`. dlt extracts and
normalises; its files go into the hands of the loader as BATCH messages, and the state of its sources follows them as
STATE. What the source prints goes to standard error.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import IO, Any

STATE = "sources"
"""The part of a pipeline's state that is its sources'; the rest is about this run."""
KINDS: dict[str, dict[str, Any]] = {
    "bigint": {"type": "integer"},
    "double": {"type": "number"},
    "decimal": {"type": "number"},
    "wei": {"type": "number"},
    "bool": {"type": "boolean"},
    "timestamp": {"type": "string", "format": "date-time"},
    "date": {"type": "string", "format": "date"},
    "json": {"type": ["object", "array"]},
}


def main() -> None:
    """Discover or run."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("function")
    for option in ("--config", "--catalog", "--state"):
        parser.add_argument(option)
    parser.add_argument("--discover", action="store_true")
    said = parser.parse_args()
    sys.path.insert(0, said.folder)
    module, _, name = said.function.partition(":")
    source = getattr(importlib.import_module(module), name)(**_json(said.config))
    if said.discover:
        out.write(json.dumps({"streams": [_entry(*pair) for pair in source.resources.items()]}) + "\n")
    else:
        (chosen,) = [one["tap_stream_id"] for one in _json(said.catalog)["streams"] if one.get("selected")]
        Extraction(source, chosen, out).run(_json(said.state) if said.state else None)
    out.close()


def _json(path: str) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def _entry(name: str, resource: Any) -> dict[str, Any]:
    """Return a resource's entry of the catalogue; columns that it does not declare are known when there are rows."""
    columns = _columns(resource)
    cursor = next((column for column, hints in columns.items() if hints.get("incremental")), None)
    return {
        "tap_stream_id": name,
        "stream": name,
        "key_properties": _key(columns),
        "replication_key": cursor,
        "replication_method": "INCREMENTAL" if cursor else "FULL_TABLE",
        "schema": {"properties": _properties(columns)},
        "metadata": [],
    }


def _columns(resource: Any) -> dict[str, Any]:
    try:
        return dict(resource.compute_table_schema()["columns"])
    except Exception:  # hints that are functions of a row
        return {}


def _key(columns: dict[str, Any]) -> list[str]:
    return [name for name, hints in columns.items() if hints.get("primary_key")]


def _properties(columns: dict[str, Any]) -> dict[str, Any]:
    kinds = {name: hints["data_type"] for name, hints in columns.items() if hints.get("data_type")}
    return {name: KINDS.get(kind, {"type": "string"}) for name, kind in kinds.items()}


class Extraction:
    """One run of one resource into our hands."""

    def __init__(self, source: Any, chosen: str, out: IO[str]) -> None:
        self.chosen, self.out, self.home = chosen, out, Path.home()
        self.source = source.with_resources(chosen)
        self.source.max_table_nesting = 0  # what is nested stays in its row, as JSON
        resource = self.source.resources[chosen]
        self.columns = _columns(resource)
        resource.apply_hints(write_disposition="append")  # the warehouse merges and replaces
        self.table = resource.table_name if isinstance(resource.table_name, str) else chosen
        self.lock, self.announced = threading.Lock(), False

    def run(self, state: dict[str, Any] | None) -> None:
        """Extract, hand over, and say the state."""
        dlt: Any = importlib.import_module("dlt")

        def hand_over(path: str, table: dict[str, Any]) -> None:  # dlt gives it attributes, as a method cannot have
            self.take(path, table)

        destination = dlt.destination(
            hand_over,
            name="granary",
            batch_size=0,
            loader_file_format="parquet",
            naming_convention="direct",
            max_table_nesting=0,
            skip_dlt_columns_and_tables=True,
        )
        pipeline = dlt.pipeline(
            "granary", destination=destination, pipelines_dir=str(self.home / "dlt"), dataset_name="granary"
        )
        if state:
            with pipeline.managed_state() as kept:
                kept[STATE] = state[STATE]
        pipeline.run(self.source)
        self.say("STATE", value={STATE: pipeline.state.get(STATE) or {}})

    def take(self, path: str, table: dict[str, Any]) -> None:
        """Hand a file over, which has rows of a table; dlt calls this in several threads."""
        with self.lock:
            if table["name"] != self.table:
                return
            if not self.announced:
                self.announced = True
                columns = {name: hints for name, hints in table["columns"].items() if not name.startswith("_dlt_")}
                schema = {"properties": _properties(columns)}
                self.say("SCHEMA", stream=self.chosen, schema=schema, key_properties=_key(columns))
            file = Path(path)
            place = self.home / f"batch-{file.name}"
            os.link(file, place)
            encoding = {"format": "parquet", "compression": "none"}
            self.say("BATCH", stream=self.chosen, encoding=encoding, manifest=[place.as_uri()])

    def say(self, kind: str, **parts: Any) -> None:
        """Print a message."""
        self.out.write(json.dumps({"type": kind, **parts}, default=str) + "\n")
        self.out.flush()


if __name__ == "__main__":
    main()
