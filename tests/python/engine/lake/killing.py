"""Exports and loads in processes of their own that are killed on their way; forks of one without readers' threads."""

from __future__ import annotations

import multiprocessing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.lake import export
from granary.load import api
from granary.readers.tables import DeltaReader, IcebergReader
from granary.sources.spec import Column, Source, Table
from granary.warehouse import faults

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.python.engine.lake.killing", "pyiceberg.io.pyarrow", "deltalake"])


def source(name: str, kind: str, location: str, table: dict[str, Any] | None = None, **more: Any) -> Source:
    """Return a source with one table, `things`."""
    values: dict[str, Any] = {
        "name": "things",
        "description": "Things.",
        "location": "things",
        "columns": (Column("id", pa.int64(), "Number.", nullable=False), Column("name", pa.string(), "Name.")),
        "disposition": "replace_unit",
        "freshness": timedelta(days=1),
    }
    reader = DeltaReader if kind == "delta" else IcebergReader
    return Source(
        name=name,
        description="A lake.",
        owner="tests",
        kind=kind,
        settings=(),
        open_reader=lambda _: reader(location, **more),
        tables=(Table(**values | (table or {})),),
    )


def killed_at(point: str, settings: Settings, wanted: export.Wanted) -> int | None:
    """Export in a process that ends itself at a named point; return its exit code."""
    return _ended(_export, point, settings, wanted)


def load_killed_at(point: str, settings: Settings, name: str, kind: str, location: str) -> int | None:
    """Load in a process that ends itself at a named point; return its exit code."""
    return _ended(_load, point, settings, name, kind, location)


def _ended(target: Any, *arguments: Any) -> int | None:
    process = FORKS.Process(target=target, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def _export(point: str, settings: Settings, wanted: export.Wanted) -> None:
    faults.arm(point)
    export.export(settings, wanted)


def _load(point: str, settings: Settings, name: str, kind: str, location: str) -> None:
    vars(api)["SOURCES"] = {name: source(name, kind, location)}
    faults.arm(point)
    api.load_table(settings, name, "things")
