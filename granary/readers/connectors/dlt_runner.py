"""Runs one resource of a dlt source in the environment of a connector, a program by itself, and speaks as a tap does.

`dlt_runner.py FOLDER MODULE:FUNCTION --config FILE [--catalog FILE] [--state FILE]`, or `--discover`. dlt extracts and
normalises; its files go into the hands of the loader as BATCH messages, and the state of its sources follows them as
STATE. What the source prints goes to standard error.
"""

import argparse
import importlib
import json
import os
import sys
import threading
from pathlib import Path

KEPT = ("sources",)
WORDS = {
    "bigint": {"type": "integer"}, "double": {"type": "number"}, "decimal": {"type": "number"}, "wei": {"type": "number"},
    "bool": {"type": "boolean"}, "timestamp": {"type": "string", "format": "date-time"},
    "date": {"type": "string", "format": "date"}, "json": {"type": ["object", "array"]},
}  # fmt: skip


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
        print(json.dumps({"streams": [_entry(*pair) for pair in source.resources.items()]}), file=out)
        return
    streams = _json(said.catalog)["streams"]
    (chosen,) = [entry["tap_stream_id"] for entry in streams if entry.get("selected")]
    _run(source, chosen, _json(said.state) if said.state else None, out)


def _json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def _entry(name, resource):
    """Return a resource's entry of the catalogue; what its columns are is known when there are rows."""
    try:
        table = resource.compute_table_schema()
    except Exception:
        table = {}
    columns = {name: hints for name, hints in (table.get("columns") or {}).items() if hints.get("data_type")}
    keys = [name for name, hints in (table.get("columns") or {}).items() if hints.get("primary_key")]
    cursor = next((name for name, hints in (table.get("columns") or {}).items() if hints.get("incremental")), None)
    return {
        "tap_stream_id": name,
        "stream": name,
        "key_properties": keys,
        "replication_key": cursor,
        "replication_method": "INCREMENTAL" if cursor else "FULL_TABLE",
        "schema": {"properties": {name: _kind(hints) for name, hints in columns.items()}},
        "metadata": [],
    }


def _kind(hints):
    return dict(WORDS.get(hints.get("data_type"), {"type": "string"}))


def _run(source, chosen, state, out):
    import dlt

    here = Path.cwd()
    source = source.with_resources(chosen)
    source.max_table_nesting = 0
    resource = source.resources[chosen]
    resource.apply_hints(write_disposition="append")
    wanted = resource.table_name if isinstance(resource.table_name, str) else chosen
    lock = threading.Lock()
    announced = []

    def say(kind, **parts):
        out.write(json.dumps({"type": kind, **parts}, default=str) + "\n")
        out.flush()

    def sink(path, table):
        with lock:
            if table["name"] != wanted:
                return
            columns = {name: hints for name, hints in table["columns"].items() if not name.startswith("_dlt_")}
            if not announced:
                keys = [name for name, hints in columns.items() if hints.get("primary_key")]
                properties = {name: _kind(hints) for name, hints in columns.items()}
                say("SCHEMA", stream=chosen, schema={"properties": properties}, key_properties=keys)
                announced.append(chosen)
            file = Path(path)
            place = here / f"batch-{file.name}"
            os.link(file, place)
            kind = "parquet" if ".parquet" in file.name else "jsonl"
            packed = "gzip" if place.read_bytes()[:2] == b"\x1f\x8b" else "none"
            encoding = {"format": kind, "compression": "none" if kind == "parquet" else packed}
            say("BATCH", stream=chosen, encoding=encoding, manifest=[place.as_uri()])

    try:
        import pyarrow  # noqa: F401

        kind = "parquet"
    except ImportError:
        kind = "typed-jsonl"
    destination = dlt.destination(
        sink,
        name="granary",
        batch_size=0,
        loader_file_format=kind,
        naming_convention="direct",
        max_table_nesting=0,
        skip_dlt_columns_and_tables=True,
    )
    pipeline = dlt.pipeline("granary", destination=destination, pipelines_dir=str(here / "dlt"), dataset_name="granary")
    if state:
        with pipeline.managed_state() as kept:
            kept.update({name: state[name] for name in KEPT if name in state})
    pipeline.run(source)
    say("STATE", value={name: pipeline.state[name] for name in KEPT if name in pipeline.state})
    out.close()


if __name__ == "__main__":
    main()
