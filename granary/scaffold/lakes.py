"""Finds tables in a lake."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from granary.profiling.names import snake
from granary.scaffold.plan import Found, Opening
from granary.scaffold.python_text import Group, literal
from granary.warehouse.errors import GranaryError, unknown

if TYPE_CHECKING:
    from collections.abc import Collection

    from granary.readers.tables.reader import LakeReader

ROWS = 50_000
FRESHNESS = timedelta(hours=36)
KINDS = ("iceberg:", "delta:", "iceberg+http://", "iceberg+https://")
"""How an address of a lake begins."""


def find(name: str, where: str, only: Collection[str]) -> tuple[Opening, list[Found], str]:
    """Find the tables at an address such as `delta:FOLDER`, `iceberg:s3://BUCKET/FOLDER` or `iceberg+https://HOST/`.

    Returns:
        How the reader is opened, the tables, and what to show the source as.

    Raises:
        GranaryError: it cannot be read, or there is no such table.
    """
    from granary.readers.tables import DeltaReader, IcebergReader

    kind, _, rest = where.partition(":")
    place = where if "+" in kind else rest
    opened: type[LakeReader] = DeltaReader if kind == "delta" else IcebergReader
    reader = opened(place)
    there = reader.tables()
    if not there:
        raise GranaryError("there is no table of a lake", reader.place.url, "name the folder that tables lie in")
    for missing in set(only) - set(there) - {snake(one) for one in there}:
        raise unknown("table", missing, there, reader.place.url)
    wanted = [one for one in there if not only or {one, snake(one)} & set(only)]
    setting = f"GRANARY_{name.upper()}_URL"
    opening = Opening(
        imports=(f"from granary.readers.tables import {opened.__name__}",),
        expression=Group(opened.__name__, (f"settings[{literal(setting)}]",)),
        settings={setting: place},
    )
    return opening, [_found(reader, one) for one in wanted], reader.format


def _found(reader: LakeReader, location: str) -> Found:
    from granary.sources.spec import Column, Table

    table = Table(
        name="sample",
        description="A table that nobody has described yet.",
        location=location,
        columns=(Column("unknown", pa.string(), "Not yet."),),
        disposition="replace_unit",
        freshness=FRESHNESS,
    )
    batches: list[pa.RecordBatch] = []
    rows, complete = 0, True
    for unit in reader.units(table, None):
        for batch in reader.read(table, unit, None):
            batches.append(batch.batch)
            rows += batch.rows
        if rows > ROWS:
            complete = False
            break
    return Found(
        name=location.rpartition("/")[2],
        location=location,
        sample=pa.Table.from_batches(batches).slice(0, ROWS),
        freshness=FRESHNESS,
        complete=complete,
        whole=True,
    )
