"""Changes out of the quarantine: back through the contract, and never over a later change of the same row."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from granary.cdc.current_table import changes_target
from granary.cdc.rows import BYTES, NOT_HERE, Image, landing
from granary.sources.capture import CHANGE_COLUMNS
from granary.warehouse.binary_copy import copy_into_new
from granary.warehouse.connection import quote_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.sources.spec import Source, Table
    from granary.sources.units import SourceBatch
    from granary.warehouse.writer import LoadTransaction

    Row = Mapping[str, str | None]

OVERTAKEN = "has been overtaken: a later change of its row has landed; drop the entry"
DESCRIBED = [column.name for column in CHANGE_COLUMNS]


def source_batch(table: Table, names: Sequence[str], rows: Sequence[Row], absent: Mapping[int, str]) -> SourceBatch:
    """Return refused changes, as text, as rows of the change table; what the stream must not lack is checked again.

    Args:
        table: the contract of the captured table, not that of its change table.
        names: the columns of the change table.
        rows: the values of each change by the contract's names.
        absent: of the rows whose value was not in the stream and is not given now, the column: it is never a null.
    """
    texts = {name: pa.array([row.get(name) for row in rows], pa.string()) for name in names}
    binary = {column.name for column in table.columns if pa.types.is_binary(column.type)}
    images = [
        Image(name, name, BYTES if name in binary else None, texts[name]) for name in names if name not in DESCRIBED
    ]
    ops = np.array([row["cdc_op"] for row in rows])
    whole = np.isin(ops, ("insert", "update", "snapshot"))
    broken = {row: (column, NOT_HERE) for row, column in absent.items()}
    return landing({name: texts[name] for name in DESCRIBED}, images, table, whole, ops != "truncate", broken)


def overtaken(tx: LoadTransaction, source: Source, table: Table, rows: Sequence[Row]) -> set[int]:
    """Return the places of changes that would undo a later one of their row, by its key now or before.

    The change table is in the order of what happened, row by row; a change that comes late may only be added to its
    end if nothing has happened to its row since.
    """
    changes = changes_target(source, table).sql_name
    staged = pa.table(
        {
            "place": pa.array(range(len(rows)), pa.int64()),
            **{name: pa.array([row[name] for row in rows], pa.string()) for name in ("cdc_lsn", "cdc_seq")},
            "now": pa.array([json.dumps({name: row[name] for name in table.key}) for row in rows], pa.string()),
            "before": pa.array([row["cdc_key_before"] for row in rows], pa.string()),
        }
    )
    copy_into_new(tx.connection, "cdc_late", staged.schema, staged.to_batches())

    def key(of: str) -> str:
        return "(" + ", ".join(f"{of}.{quote_name(name)}" for name in table.key) + ")"

    found = tx.query(
        f"select late.place from cdc_late as late, jsonb_populate_record(null::{changes}, late.now::jsonb) as now,"
        f" jsonb_populate_record(null::{changes}, late.before::jsonb) as before"
        f" where exists (select 1 from {changes} as c,"
        f" jsonb_populate_record(null::{changes}, c.cdc_key_before::jsonb) as earlier"
        " where (c.cdc_lsn, c.cdc_seq) > (late.cdc_lsn::bigint, late.cdc_seq::bigint)"
        " and (c.cdc_op in ('truncate', 'reset')"
        f" or {key('c')} in ({key('now')}, {key('before')}) or {key('earlier')} in ({key('now')}, {key('before')})))"
    )
    tx.execute("drop table cdc_late")
    return {int(place) for (place,) in found}
