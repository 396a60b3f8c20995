"""Spark for a stream: its session, and event models computed by it."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granary.spark.streaming.batches import raw_view
from granary.spark.streaming.fresh import seen_by_build
from granary.spark.streaming.models import view_of
from granary.warehouse.connection import connect, connect_arrow, execute, query, quote_relation
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from granary.spark.streaming.fresh import FreshTable
    from granary.warehouse.settings import Settings

CONFIGURATION = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "4",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.streaming.minBatchesToRetain": "10",
}
"""What a stream wants otherwise than Spark's defaults: batches are small, and times are UTC."""
LOG_BYTES = 5_000_000
VERSION = "select coalesce(max(version), 0) from ops.model_versions where model = $1"


def session(settings: Settings, name: str, master: str) -> Any:
    """Return a session of Spark on this machine (`local[2]`) or of a cluster (`spark://host:7077`).

    Raises:
        GranaryError: pyspark or Java is not installed, or Spark does not start.
    """
    try:
        from pyspark.sql import SparkSession  # noqa: PLC0415 - an extra
    except ImportError:
        raise GranaryError("--spark needs the package pyspark", todo="pip install 'granary-elt[spark]'") from None
    home = os.environ.get("JAVA_HOME")
    if not (shutil.which("java") or (home and (Path(home) / "bin" / "java").exists())):
        raise GranaryError("Spark needs Java 17 or later, and there is none", todo="install it, or set JAVA_HOME")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if master.startswith("local"):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = SparkSession.builder.master(master).appName(f"granary stream {name}")
    for key, value in CONFIGURATION.items():
        builder = builder.config(key, value)
    builder = builder.config("spark.sql.warehouse.dir", str(settings.home / "spark" / "warehouse"))
    log = settings.home / "logs" / "spark.log"
    try:
        with _said_into(log):
            return builder.getOrCreate()
    except Exception as error:  # whatever the JVM or the gateway raises
        words = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise GranaryError(f"Spark does not start: {words}", master, f"see {log}") from None


@contextmanager
def _said_into(log: Path) -> Iterator[None]:
    """Have what a process says that begins inside go into a file, for as long as it lives: Spark's Java talks a lot."""
    log.parent.mkdir(exist_ok=True)
    is_full = log.exists() and log.stat().st_size > LOG_BYTES
    sys.stderr.flush()
    ours = os.dup(2)
    with log.open("wb" if is_full else "ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(ours, 2)
        os.close(ours)


class SparkModels:
    """Models computed by Spark: events as they land, beside tables as they were last built."""

    def __init__(self, settings: Settings, spark: Any, source: str) -> None:
        """Compute the models of a source; nothing is read yet."""
        self.settings, self.spark, self.source = settings, spark, source
        self.versions: dict[str, int] = {}

    def compute(self, fresh: FreshTable, events: pa.Table) -> tuple[pa.Table, int]:
        """Return a model's rows of these raw rows, and the highest load that its build has."""
        with connect(self.settings, role="transformer") as connection:
            seen = seen_by_build(connection, self.source, fresh.model)
            versions = {name: int(query(connection, VERSION, name)[0][0]) for name in fresh.model.tables}
        for name, version in versions.items():
            if not version or self.versions.get(name) != version:
                self.spark.createDataFrame(self._rows(name)).createOrReplaceTempView(view_of(name))
                self.versions[name] = version
        view = raw_view(self.source, fresh.model.topic_table)
        self.spark.createDataFrame(events).createOrReplaceTempView(view)
        for view, sql in fresh.model.queries:
            self.spark.sql(sql).createOrReplaceTempView(view)
        return self.spark.table(view).toArrow(), seen

    def _rows(self, name: str) -> pa.Table:
        """Return a relation of the warehouse as it is."""
        connection = connect_arrow(self.settings, "transformer")
        try:
            execute(connection, "set local time zone 'UTC'")
            with connection.cursor() as cursor:
                cursor.execute(f"select * from {quote_relation(*name.split('.', 1))}")
                return cursor.fetch_arrow_table()
        finally:
            connection.close()
