"""`granary export`: a published mart into a lake, as of a publish, and after that only what changed.

What a table holds is said by the table itself, in one commit with the rows. `ops.exports` remembers of the last export
the table's version and a hash of each partition: where the version is still the same, partitions with the same hash
are not touched. Where it is not (the process was killed after its commit, or somebody else wrote), all is written anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from granary.lake import records, types
from granary.lake.delta import DeltaTable
from granary.lake.iceberg import IcebergTable
from granary.lake.parquet import ParquetTable
from granary.lake.published import named, published
from granary.lake.records import Known
from granary.lake.table import Change, Part
from granary.readers.tables.place import place_of
from granary.warehouse.connection import LockHeldError, connect, lock
from granary.warehouse.errors import GranaryError, UsageError, unknown
from granary.warehouse.faults import fault_point

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.lake.published import Published
    from granary.lake.table import LakeTable, State
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

TABLES: Mapping[str, type[IcebergTable | DeltaTable | ParquetTable]] = {
    "iceberg": IcebergTable,
    "delta": DeltaTable,
    "parquet": ParquetTable,
}
ROLES = ("analyst", "analyst_pii")
WAIT_SECONDS = 10


@dataclass(frozen=True)
class Wanted:
    """What is to be exported: a mart (by default of `marts`), where to, and how.

    `partition_by` is `COL` or `COL:UNIT`; None for what it was before, at first for no partitions. With the rights of
    the role `analyst` personal columns are masked.
    """

    mart: str
    place: str
    format: str
    partition_by: str | None = None
    role: str = "analyst"


@dataclass(frozen=True)
class Exported:
    """What an export did. `written` and `removed` count partitions, `purged` files of earlier versions."""

    mart: str
    where: str
    format: str
    publish_id: int
    rows: int
    partitions: int
    written: int
    removed: int
    rows_written: int
    purged: int


def export(settings: Settings, wanted: Wanted, *, purge: bool = False) -> Exported:
    """Bring a mart's table in a lake to the last publish.

    Args:
        settings: the warehouse.
        wanted: what, where to and how.
        purge: whether to delete what only earlier versions of the table hold.

    Raises:
        UsageError: something of it is wrong.
        GranaryError: the lake cannot be reached, holds a table of somebody else, or one that cannot become this.
    """
    if wanted.format not in TABLES:
        raise unknown("format", wanted.format, TABLES, "--format")
    if wanted.role not in ROLES:
        raise unknown("role", wanted.role, ROLES, "--role")
    place = place_of(settings, wanted.place)
    if place.kind == "catalogue" and wanted.format != "iceberg":
        raise UsageError(f"an Iceberg catalogue holds no {wanted.format}", "--format", "write --format iceberg")
    schema, name = named(wanted.mart)
    key = (place.text, f"{schema}.{name}", wanted.format)
    with connect(settings) as owner:
        _alone(owner, key)
        known = records.last(owner, key)
        partition_by = wanted.partition_by or (known.partition_by if known else None)
        with published(settings, schema, name, partition_by, wanted.role) as rows:
            table: LakeTable = TABLES[wanted.format](place, name)
            before = table.state()
            _check(before, rows, table.where)
            parts, change = _change(rows, before, known)
            version = before.version if before and not _writes(change) else table.write(change, before)
        purged = table.purge() if purge else 0
        if purge and (after := table.state()):
            version = after.version
        fault_point("lake-before-ledger")
        held = {part.key: (part.rows, part.digest) for part in parts}
        left = Known(wanted.role, partition_by, rows.publish_id, version, held)
        records.keep(owner, key, left, purged=purge)
        owner.commit()
    return Exported(
        mart=key[1],
        where=table.where,
        format=wanted.format,
        publish_id=rows.publish_id,
        rows=sum(part.rows for part in parts),
        partitions=len(parts),
        written=len(change.changed),
        removed=len(change.gone),
        rows_written=sum(part.rows for part in change.changed),
        purged=purged,
    )


def again(settings: Settings, one: records.Export, *, purge: bool = False) -> Exported:
    """Export once more what was exported before."""
    wanted = Wanted(one.mart, one.place, one.format, one.partition_by, one.role)
    return export(settings, wanted, purge=purge)


def _alone(owner: Connection, key: records.Key) -> None:
    """Have nobody else export the mart to the place until this transaction ends.

    Raises:
        GranaryError: somebody does.
    """
    try:
        lock(owner, f"export {' '.join(key)}", WAIT_SECONDS)
    except LockHeldError:
        what = f"another process exports {key[1]} there"
        raise GranaryError(what, key[0], "wait until it has ended") from None


def _check(before: State | None, rows: Published, where: str) -> None:
    """Refuse a table that is not ours, is partitioned in another way, or cannot take the columns' types.

    Raises:
        GranaryError: it is so.
    """
    if before is None:
        return
    if before.mart != rows.mart:
        whose = f"that of {before.mart}" if before.mart else "one that Granary did not make"
        raise GranaryError(f"there is a table already, {whose}", where, "export to another place")
    if before.partition_by != rows.partition_column:
        was = f"by {before.partition_by}" if before.partition_by else "not partitioned"
        todo = "leave --partition-by as it was, or remove the table there: then it begins anew"
        raise GranaryError(f"the table there is {was}", where, todo)
    types.check_change(before.schema, rows.schema, where)


def _change(rows: Published, before: State | None, known: Known | None) -> tuple[tuple[Part, ...], Change]:
    """Return the mart's partitions, and what has to be written of them."""
    trusted = known if before and known and before.version == known.version else None
    is_same = bool(before and types.same(before.schema, rows.schema))
    if trusted and is_same and trusted.publish_id == rows.publish_id and trusted.role == rows.role:
        parts = tuple(Part(key, "", number, digest) for key, (number, digest) in trusted.parts.items())
    else:
        parts = rows.parts()
    whole = not (trusted and is_same)
    held = {} if whole or trusted is None else trusted.parts
    changed = tuple(part for part in parts if held.get(part.key) != (part.rows, part.digest))
    there = {part.key for part in parts}
    gone = tuple(Part(key, "", 0, "") for key in held if key not in there)
    # Without partitions a change of any row is one of the whole table.
    whole = whole or (rows.partitioning is None and bool(changed or gone))
    column = rows.partition_column
    return parts, Change(rows.mart, rows.publish_id, rows.schema, column, whole, changed, gone, rows.read)


def _writes(change: Change) -> bool:
    return change.whole or bool(change.changed or change.gone)
