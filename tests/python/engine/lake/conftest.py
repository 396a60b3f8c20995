"""A mart of few rows and many types, and a real object store with an Iceberg catalogue."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyiceberg.table import StaticTable

from granary.lake.export import Wanted, export
from granary.warehouse.connection import connect, execute, query
from tests.python.support.object_store import KEY, SECRET, free_port, seaweed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.lake.export import Exported
    from granary.warehouse.settings import Settings

    Rows = list[tuple[Any, ...]]

FORMATS = ("iceberg", "delta", "parquet")
PUBLISH = """
    insert into ops.publishes (schema_name, invocation_id, started_at, marts, rows_inserted, rows_deleted, loads_seen)
    values ('marts', 'test', now(), '{}', 0, 0, '{}') returning publish_id
"""
MART = (
    "create schema if not exists marts authorization transformer",
    "create schema if not exists personal authorization transformer",
    "grant usage on schema marts to analyst",
    "grant usage on schema personal to analyst_pii",
    """
    create table marts.rides (
        ride_id integer, day date, fare numeric(10, 2), rate numeric, ended_at timestamptz, began timestamp, token uuid,
        extra jsonb, stops text[], small smallint, photo bytea, is_paid boolean, wait time, weight real
    )
    """,
    """
    insert into marts.rides values
    (
        1, '2026-01-31', 10.25, 0.000000000000000001, '2026-01-31 23:30+00', '2026-01-31 22:00', null, '{"a": 1}',
        '{x,y}', 1, '\\x00ff', true, '08:30', 0.5
    ),
    (
        2, '2026-01-05', 99999999.99, 1.5, null, null, '6f1c2c9e-0000-4000-8000-000000000001', null, null,
        2, null, false, null, null
    ),
    (3, '2026-02-01', 0.01, null, '2026-02-01 00:00+00', null, null, null, '{}', 3, null, null, null, null)
    """,
    "grant select on marts.rides to analyst",
    """
    create table personal.riders as select 1 as rider_id, 'Ada' as name, date '2026-01-01' as day
    """,
    """
    create view marts.riders as
    select
        rider_id, case when pg_has_role('analyst_pii', 'member') then name else 'masked' end as name, day
    from personal.riders
    """,
    "grant select on personal.riders to analyst_pii",
    "grant select on marts.riders to analyst",
)


@dataclass(frozen=True)
class Lake:
    """A warehouse with marts, and a folder to export them to."""

    settings: Settings
    folder: Path

    def run(self, *statements: str) -> None:
        """Change the warehouse."""
        with connect(self.settings) as connection:
            for statement in statements:
                execute(connection, statement)
            connection.commit()

    def publish(self, *statements: str) -> int:
        """Change the marts and say that this was a publish; return its number."""
        with connect(self.settings) as connection:
            for statement in statements:
                execute(connection, statement)
            ((number,),) = query(connection, PUBLISH)
            connection.commit()
        return int(number)

    def export(self, kind: str, mart: str = "rides", *, purge: bool = False, **more: Any) -> Exported:
        """Export a mart into the folder, rides by month."""
        more = {"partition_by": "day"} | more if mart == "rides" else more
        place = more.pop("place", str(self.folder))
        return export(self.settings, Wanted(mart, place, kind, **more), purge=purge)

    def files(self) -> dict[str, float]:
        """Return the files of the folder and when each was written."""
        return {
            path.relative_to(self.folder).as_posix(): path.stat().st_mtime_ns
            for path in self.folder.rglob("*")
            if path.is_file()
        }


@pytest.fixture
def lake(warehouse: Settings, tmp_path: Path) -> Lake:
    """Return a warehouse whose mart of rides was published once."""
    lake = Lake(warehouse, tmp_path / "lake")
    lake.publish(*MART)
    return lake


def extended(connection: duckdb.DuckDBPyConnection, *names: str) -> duckdb.DuckDBPyConnection:
    """Load extensions of DuckDB from their packages: nothing is asked of a network."""
    connection.execute("set autoinstall_known_extensions = false")
    for name in names:
        folder = Path(str(import_module(f"duckdb_extension_{name}").__file__)).parent
        (file,) = folder.glob(f"extensions/v{duckdb.__version__}/*.duckdb_extension")
        connection.execute(f"load '{file}'")
    return connection


def by_pyarrow(kind: str, where: str) -> pa.Table:
    """Return a table as each format's own library reads it."""
    if kind == "iceberg":
        return StaticTable.from_metadata(where).scan().to_arrow()
    if kind == "delta":
        return DeltaTable(where).to_pyarrow_table()
    return pa.concat_tables([pq.read_table(file, partitioning=None) for file in manifest_files(where)])


def by_polars(kind: str, where: str) -> pa.Table:
    if kind == "iceberg":
        return pl.scan_iceberg(StaticTable.from_metadata(where)).collect().to_arrow()
    if kind == "delta":
        return pl.read_delta(where).to_arrow()
    return pl.read_parquet(manifest_files(where), hive_partitioning=False).to_arrow()


def by_duckdb(kind: str, where: str) -> pa.Table:
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        extended(connection, "avro", "iceberg", "delta")
        if kind == "parquet":
            listed = f"from (select unnest(files) as file from read_json('{where}/_manifest.json'))"
            connection.execute(f"set variable files = (select list('{where}/' || file.path) {listed})")
            return connection.sql("select * from read_parquet(getvariable('files'))").to_arrow_table()
        return connection.sql(f"select * from {kind}_scan('{where}')").to_arrow_table()


READERS: dict[str, Callable[[str, str], pa.Table]] = {"own": by_pyarrow, "polars": by_polars, "duckdb": by_duckdb}


def manifest_files(where: str) -> list[str]:
    """Return the files that the manifest of a Parquet export names."""
    manifest = json.loads((Path(where) / "_manifest.json").read_text())
    return [f"{where}/{one['path']}" for one in manifest["files"]]


def rides(table: pa.Table, *columns: str) -> Rows:
    """Return columns of the rides, by number of the ride."""
    wanted = columns or ("ride_id", "fare")
    return sorted(tuple(row[name] for name in wanted) for row in table.to_pylist())


@dataclass(frozen=True)
class Store:
    """A running object store and its Iceberg catalogue."""

    s3_port: int
    catalogue_port: int

    @property
    def endpoint(self) -> str:
        """The address of its S3."""
        return f"http://127.0.0.1:{self.s3_port}"

    def client(self, service: str) -> Any:
        """Return a client of AWS's own library."""
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )

    def duckdb(self) -> duckdb.DuckDBPyConnection:
        """Return a DuckDB that reads from it, by path and by catalogue."""
        connection = extended(duckdb.connect(), "httpfs", "avro", "iceberg", "delta")
        connection.execute(
            f"create secret (type s3, key_id '{KEY}', secret '{SECRET}', endpoint '127.0.0.1:{self.s3_port}',"
            " url_style 'path', use_ssl false, region 'us-east-1')"
        )
        return connection


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Run SeaweedFS with S3 and its Iceberg REST catalogue: a bucket `lake`, and one of tables, `tables`."""
    running = Store(free_port(), free_port())

    def ready() -> None:
        running.client("s3").create_bucket(Bucket="lake")
        running.client("s3tables").create_table_bucket(name="tables")

    home = tmp_path_factory.mktemp("weed")
    with seaweed(home, running.s3_port, ready, f"-s3.port.iceberg={running.catalogue_port}"):
        yield running


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the credentials of the object store."""
    monkeypatch.setenv("GRANARY_LAKE_KEY", KEY)
    monkeypatch.setenv("GRANARY_LAKE_SECRET", SECRET)
    monkeypatch.setenv("GRANARY_LAKE_CREDENTIAL", f"{KEY}:{SECRET}")
