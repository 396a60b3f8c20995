"""Parquet files with a manifest: `_manifest.json` names those that are the table, and is replaced as a whole.

Files are never changed: a partition that changed gets new ones, and those that it had go once the manifest is there.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pyarrow as pa

from granary.lake.table import FILE_BYTES, NULL, Change, State
from granary.tiering.parquet_file import CHUNK_BYTES, GROUP_ROWS, chunks, write_file
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from granary.readers.files.destination import Destination
    from granary.readers.tables.place import Place

MANIFEST = "_manifest.json"
OURS = re.compile(r"(?:[^/]+/)?part-[0-9a-f]{32}\.parquet")
"""Our files' names: no other file is ever removed."""


def write_files(
    files: Destination, folder: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> Iterator[dict[str, Any]]:
    """Write rows into as many files below a folder as they need, none for no rows; yield what each is."""
    groups = iter(chunks(batches, GROUP_ROWS, CHUNK_BYTES))
    for first in groups:

        def rest(first: pa.Table = first) -> Iterator[pa.Table]:
            yield first
            yield from groups

        yield write_file(files, f"{folder}part-{uuid.uuid4().hex}.parquet", schema, rest(), FILE_BYTES)
        fault_point("lake-file-written")


class ParquetTable:
    """A mart's folder of Parquet files."""

    def __init__(self, place: Place, name: str) -> None:
        """Remember the folder."""
        self._files = place.destination(name)
        self.where = self._files.place

    def state(self) -> State | None:
        """Return what the manifest says."""
        found = self._manifest()
        if found is None:
            return None
        return State(str(found["id"]), str(found["mart"]), decoded(found["schema"]), found["partition_by"])

    def write(self, change: Change, before: State | None) -> str:
        """Write the files of what changed, then the manifest, then remove what it does not name."""
        del before
        earlier = self._manifest() or {"files": []}
        replaced = {part.key for part in (*change.changed, *change.gone)}
        kept = [] if change.whole else [one for one in earlier["files"] if one["partition"] not in replaced]
        for part in change.changed:
            folder = ""
            if change.partition_by:
                value = NULL if part.key is None else quote(part.key, safe="") or NULL
                folder = f"{change.partition_by}={value}/"
            for one in write_files(self._files, folder, change.schema, change.read(part)):
                kept.append({**one, "partition": part.key})
        fault_point("lake-before-commit")
        version = uuid.uuid4().hex
        manifest = {
            "id": version,
            "mart": change.mart,
            "publish_id": change.publish_id,
            "partition_by": change.partition_by,
            "columns": {field.name: str(field.type) for field in change.schema},
            "schema": encoded(change.schema),
            "files": kept,
        }
        with self._files.writing(MANIFEST) as file:
            file.write(json.dumps(manifest, indent=1).encode())
        fault_point("lake-committed")
        self.purge()
        return version

    def purge(self) -> int:
        """Remove files of ours that the manifest does not name."""
        manifest = self._manifest()
        named = {one["path"] for one in manifest["files"]} if manifest else set()
        stray = [name for name in self._files.names("") if OURS.fullmatch(name) and name not in named]
        for name in stray:
            self._files.remove(name)
        return len(stray)

    def _manifest(self) -> Mapping[str, Any] | None:
        try:
            with self._files.reading(MANIFEST) as file:
                found = json.loads(file.read())
                assert {"id", "mart", "schema", "partition_by", "files"} <= set(found)
                return dict(found)
        except FileNotFoundError:
            return None
        except (ValueError, AssertionError, TypeError):
            todo = "it is not one of Granary's: export to another place"
            raise GranaryError(f"{MANIFEST} cannot be read", self.where, todo) from None


def encoded(schema: pa.Schema) -> str:
    """Return a schema as text."""
    return base64.b64encode(schema.serialize()).decode()


def decoded(text: str) -> pa.Schema:
    """Return the schema of a text."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
