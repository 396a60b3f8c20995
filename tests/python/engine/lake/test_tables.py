"""Iceberg and Delta tables as sources: what was appended is read once, and what was rewritten takes its place."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog import load_catalog
from pyiceberg.io.pyarrow import _pyarrow_to_schema_without_ids
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import assign_fresh_schema_ids

from granary.lake.folder_catalog import FolderCatalog
from granary.load.api import load_table
from granary.readers.files.destination import Folder
from granary.scaffold.inspection import inspect_source
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError, UsageError
from tests.python.engine.lake.conftest import KEY, SECRET
from tests.python.engine.lake.killing import load_killed_at, source

if TYPE_CHECKING:
    from granary.load.batch_stage import LoadResult
    from granary.warehouse.settings import Settings
    from tests.python.engine.lake.conftest import Store

_number = count(1)
SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string()), ("tags", pa.list_(pa.string()))])


def rows(*ids: int) -> pa.Table:
    return pa.table({"id": ids, "name": [f"n{one}" for one in ids], "tags": [["a"]] * len(ids)}, schema=SCHEMA)


@dataclass
class Lake:
    """A table in a folder that another system writes, and the source that reads it."""

    settings: Settings
    folder: Path
    kind: str
    patch: pytest.MonkeyPatch
    name: str = field(default_factory=lambda: f"lake{next(_number)}")

    @property
    def where(self) -> str:
        return str(self.folder / "things")

    def append(self, *ids: int) -> None:
        if self.kind == "delta":
            write_deltalake(self.where, rows(*ids), mode="append")
        else:
            self.iceberg().append(rows(*ids))

    def iceberg(self) -> Any:
        """Return the table as it is, made if it is not there."""
        catalogue = FolderCatalog(self.where, Folder(Path(self.where) / "metadata"), {})
        if (Path(self.where) / "metadata" / "version-hint.text").exists():
            return catalogue.load_table(("lake", "things"))
        schema = assign_fresh_schema_ids(_pyarrow_to_schema_without_ids(SCHEMA))
        return catalogue.create_table(("lake", "things"), schema, UNPARTITIONED_PARTITION_SPEC, {})

    def delete(self, condition: str) -> None:
        self.iceberg().delete(condition) if self.kind == "iceberg" else DeltaTable(self.where).delete(condition)

    def overwrite(self, *ids: int) -> None:
        if self.kind == "iceberg":
            self.iceberg().overwrite(rows(*ids))
        else:
            write_deltalake(self.where, rows(*ids), mode="overwrite")

    def load(self, table: dict[str, Any] | None = None, full_refresh: bool = False, **more: Any) -> LoadResult:
        location = more.pop("location", str(self.folder))
        sources = {self.name: source(self.name, self.kind, location, table, **more)}
        self.patch.setattr("granary.load.api.SOURCES", sources)
        return load_table(self.settings, self.name, "things", full_refresh=full_refresh)

    def ids(self) -> list[int]:
        with connect(self.settings) as connection:
            return [one for (one,) in query(connection, f"select id from raw_{self.name}.things order by 1")]

    def units(self) -> list[tuple[Any, ...]]:
        """Return the ledger: of each file that holds something, its rows."""
        with connect(self.settings) as connection:
            return query(
                connection,
                "select rows_loaded, unit like '%.parquet' from ops.load_audit where source = $1"
                " and superseded_by is null and status = 'loaded' and rows_loaded > 0 order by load_id",
                self.name,
            )


@pytest.fixture(params=["iceberg", "delta"])
def things(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """Return an empty place."""
    return Lake(settings, tmp_path, request.param, monkeypatch)


def test_what_was_appended_is_read_once(things: Lake) -> None:
    things.append(1, 2)
    assert things.load().rows_loaded == 2
    things.append(3)
    things.append(4, 5)
    assert (things.load().rows_loaded, things.ids()) == (3, [1, 2, 3, 4, 5])
    assert things.load().rows_loaded == 0
    assert sorted(things.units()) == [(1, True), (2, True), (2, True)]
    with connect(things.settings) as connection:
        found = query(connection, f"select tags from raw_{things.name}.things where id = 3")
    assert found == [('["a"]',)]


def test_what_was_rewritten_takes_its_place(things: Lake) -> None:
    things.append(1, 2)
    things.append(3)
    things.load()
    things.delete("id = 1")
    assert (things.load().rows_loaded, things.ids()) == (1, [2, 3])
    things.overwrite(7, 8)
    assert (things.load().rows_loaded, things.ids()) == (2, [7, 8])
    assert things.load().rows_loaded == 0
    things.append(9)
    assert (things.load(full_refresh=True).rows_loaded, things.ids()) == (3, [7, 8, 9])


def test_a_load_that_is_killed_leaves_the_former_state_or_the_next_one(things: Lake) -> None:
    things.append(1, 2)
    things.load()
    things.delete("id = 1")
    things.append(3)
    for point, expected in (
        ("extracted", [1, 2]),
        ("mid-copy", [1, 2]),
        ("before-commit", [1, 2]),
        ("after-commit", [2, 3]),
    ):
        code = load_killed_at(point, things.settings, things.name, things.kind, str(things.folder))
        assert (code, things.ids()) == (-signal.SIGKILL, expected), point
    assert (things.load().rows_loaded, things.ids()) == (0, [2, 3])


def test_a_table_that_may_only_grow(things: Lake) -> None:
    things.append(1, 2)
    things.load(rewrites="refuse")
    things.append(3)
    assert things.load(rewrites="refuse").rows_loaded == 1
    things.overwrite(7, 8)
    with pytest.raises(GranaryError, match="overwritten, compacted, or rows were deleted: 2 of the files"):
        things.load(rewrites="refuse")
    assert things.ids() == [1, 2, 3]
    things.load(full_refresh=True, rewrites="refuse")
    assert things.ids() == [7, 8]


def test_what_cannot_be_read_is_said(things: Lake) -> None:
    kind = things.kind.capitalize()
    with pytest.raises(GranaryError, match=f"there is no {kind} table"):
        things.load()
    things.append(1)
    for wrong in ({"disposition": "append", "key": ("id",)}, {"cursor": "id"}, {"partition": "day"}):
        with pytest.raises(GranaryError, match="a table of a lake is read by its files"):
            things.load(wrong)
    with pytest.raises(UsageError, match="the address holds credentials") as error:
        things.load(location="s3://key:hidden@bucket/x")
    assert "hidden" not in str(error.value)
    things.load()
    (file,) = Path(things.where).rglob("*.parquet")
    file.unlink()
    with pytest.raises(GranaryError, match=r"load again|cannot be read"):
        things.load(full_refresh=True)
    assert things.ids() == [1]


def test_a_module_is_written_for_it(things: Lake) -> None:
    things.append(1, 2)
    planned = inspect_source("fleet", f"{things.kind}:{things.folder}")
    (table,) = planned.tables
    assert (planned.kind, table.name, table.location, table.disposition) == (
        things.kind,
        "things",
        "things",
        "replace_unit",
    )
    assert [column.name for column in table.columns] == ["id", "name", "tags"]
    assert planned.opening.settings == {"GRANARY_FLEET_URL": str(things.folder)}
    with pytest.raises(GranaryError, match="there is no table of a lake"):
        inspect_source("fleet", f"{things.kind}:{things.folder}/nowhere")


@pytest.mark.parametrize("things", ["iceberg"], indirect=True)
def test_a_catalogue(things: Lake, store: Store) -> None:
    address = f"http://127.0.0.1:{store.catalogue_port}"
    catalogue = load_catalog(
        "test",
        type="rest",
        uri=address,
        warehouse="s3://tables",
        credential=f"{KEY}:{SECRET}",
        **{"s3.endpoint": store.endpoint, "s3.access-key-id": KEY, "s3.secret-access-key": SECRET},
    )
    catalogue.create_namespace(things.name)
    table = catalogue.create_table((things.name, "things"), SCHEMA)
    table.append(rows(1, 2))
    more = {
        "location": f"iceberg+{address}?warehouse=s3://tables&namespace={things.name}&endpoint_url={store.endpoint}",
        "credentials": {"key": KEY, "secret": SECRET, "credential": f"{KEY}:{SECRET}"},
    }
    assert things.load(**more).rows_loaded == 2
    table.append(rows(3))
    assert (things.load(**more).rows_loaded, things.ids()) == (1, [1, 2, 3])
