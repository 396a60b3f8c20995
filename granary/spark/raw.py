"""What Postgres holds for the models, as Parquet beside Spark's own tables: raw tables, snapshots, the ledger.

A raw table is one file per load, named by the load and its rows: rows of a load come once, and go when another load
replaces it, a key moves on, or somebody is forgotten. So a file that has the right name is right, and only what changed
is read again. Other tables are small and come whole. All are read in one snapshot of the warehouse.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from granary.dbt.manifest import load as load_manifest
from granary.dbt.manifest import prepare
from granary.dbt.manifest_nodes import relation
from granary.spark.session import connect
from granary.warehouse.connection import columns_of, connect_arrow, execute, query, quote_name, quote_relation
from granary.warehouse.errors import GranaryError
from granary.warehouse.filelock import locked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from granary.spark.cluster import Cluster
    from granary.warehouse.connection import ArrowConnection
    from granary.warehouse.settings import Settings

LOAD = "_load_id"
"""The column by which a raw table knows who brought a row."""
ENGINE = "granary"
"""The package whose models and tests are about Postgres itself."""
PLAIN = {
    "bigint": "bigint", "boolean": "boolean", "date": "date", "double precision": "double", "integer": "int",
    "real": "float", "smallint": "smallint", "text": "string", "timestamp with time zone": "timestamp",
    "timestamp without time zone": "timestamp_ntz",
}  # fmt: skip
"""Postgres' types and Spark's; any other comes as text."""
DECIMAL = re.compile(r"numeric\((\d+),(\d+)\)")
UNBOUND = "decimal(38,10)"
"""Of a `numeric` without precision."""


@dataclass(frozen=True)
class Loaded:
    """What was done for one table: its rows in all, and how many files were written and removed."""

    relation: str
    rows: int
    written: int
    removed: int


def load(settings: Settings, cluster: Cluster) -> Iterator[Loaded]:
    """Bring what the project's models and snapshots read up to date, table by table.

    Raises:
        GranaryError: Postgres or Spark is not up, the project cannot be parsed, or a table is missing.
    """
    manifest = load_manifest(prepare(settings))
    spark = connect(cluster)
    with locked(cluster.folder / "load.lock", "bringing raw tables to Spark"):
        connection = connect_arrow(settings, "transformer")
        try:
            execute(connection, "set transaction isolation level repeatable read, read only")
            execute(connection, "set local time zone 'UTC'")
            for name in relations(manifest):
                yield _bring(connection, spark, cluster, name)
        finally:
            connection.close()


def relations(manifest: Mapping[str, Any]) -> list[str]:
    """Return what the models of the project read that dbt does not build on Spark: sources and snapshots."""
    nodes = {**manifest["sources"], **manifest["nodes"]}
    read = {
        parent
        for node in manifest["nodes"].values()
        if node["resource_type"] in ("model", "snapshot") and node["package_name"] != ENGINE
        for parent in node["depends_on"]["nodes"]
        if parent.split(".")[0] in ("source", "snapshot")
    }
    return sorted(relation(nodes[one]) for one in read)


def _bring(connection: ArrowConnection, spark: Any, cluster: Cluster, name: str) -> Loaded:
    schema, table = name.split(".")
    quoted = quote_relation(schema, table)
    columns = columns_of(connection, quoted)  # type: ignore[arg-type]
    if not columns:
        raise GranaryError("the table is not there", name, "run `granary up`, and `granary run` for snapshots")
    kinds = {column: _kind(kind) for column, kind in columns.items()}
    folder = cluster.folder / "raw" / schema / table
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    version = hashlib.sha256(repr(kinds).encode()).hexdigest()[:8]
    selected = ", ".join(_selected(column, kind) for column, kind in columns.items())
    wanted: dict[str, tuple[str, tuple[object, ...]]] = {}
    rows = 0
    if LOAD in columns:
        for number, count in query(connection, f"select {LOAD}, count(*) from {quoted} group by 1"):
            wanted[f"load={number}.rows={count}.of={version}.parquet"] = (f" where {LOAD} = $1", (number,))
            rows += int(count)
    else:
        ((digest, rows),) = query(
            connection, f"select coalesce(sum(hashtextextended(t::text, 0))::text, ''), count(*) from {quoted} as t"
        )
        wanted[f"all.rows={rows}.digest={digest}.of={version}.parquet"] = ("", ())
    if not rows:
        wanted = {f"none.of={version}.parquet": (" where false", ())}
    there = {path.name for path in folder.glob("*.parquet")}
    for file in sorted(set(wanted) - there):
        where, parameters = wanted[file]
        _write(connection, f"select {selected} from {quoted}{where}", parameters, kinds, folder / file)
    gone = there - set(wanted)
    for file in gone:
        (folder / file).unlink()
    _register(spark, name, kinds, folder)
    return Loaded(name, rows, len(set(wanted) - there), len(gone))


def _selected(column: str, kind: str) -> str:
    name = quote_name(column)
    return name if kind in PLAIN else f"{name}::text as {name}"


def _kind(kind: str) -> str:
    """Return Spark's type for one of Postgres'."""
    declared = DECIMAL.fullmatch(kind)
    if declared:
        return f"decimal({declared[1]},{declared[2]})"
    return UNBOUND if kind == "numeric" else PLAIN.get(kind, "string")


def _arrow(kind: str) -> pa.DataType | None:
    """Return what a column that came as text becomes."""
    if kind.startswith("decimal"):
        precision, scale = re.findall(r"\d+", kind)
        return pa.decimal128(int(precision), int(scale))
    return None


def _write(
    connection: ArrowConnection, sql: str, parameters: tuple[object, ...], kinds: Mapping[str, str], path: Path
) -> None:
    """Write the answer to a query as a Parquet file, which is there whole or not at all."""
    half = path.with_name(f"_{path.name}")  # Spark passes over names that begin so
    cursor = connection.cursor()
    try:
        cursor.execute(sql, parameters or None)
        batches = cursor.fetch_record_batch()
        targets = [_arrow(kinds[field.name]) or field.type for field in batches.schema]
        schema = pa.schema([pa.field(one.name, kind) for one, kind in zip(batches.schema, targets, strict=True)])
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for batch in batches:
                columns = [
                    column if column.type == kind else pc.cast(column, kind)
                    for column, kind in zip(batch.columns, targets, strict=True)
                ]
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    except pa.ArrowInvalid as error:
        raise GranaryError(f"a number is no decimal that Spark holds: {error}", path.parent.name) from None
    finally:
        cursor.close()
    half.rename(path)


def _register(spark: Any, name: str, kinds: Mapping[str, str], folder: Path) -> None:
    """Have Spark know the table as it is now."""
    schema, table = name.split(".")
    spark.sql(f"create schema if not exists `{schema}`").collect()
    columns = ", ".join(f"`{column}` {kind}" for column, kind in kinds.items())
    spark.sql(f"drop table if exists `{schema}`.`{table}`").collect()
    spark.sql(f"create table `{schema}`.`{table}` ({columns}) using parquet location '{folder.as_uri()}'").collect()
