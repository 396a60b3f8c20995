"""The current table: what the changes of a batch make of it, in a few statements whatever their number."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import pyarrow as pa

from granary.sources.capture import CHANGE_COLUMNS, changes_table
from granary.warehouse.binary_copy import copy_into_new
from granary.warehouse.connection import count, quote_name
from granary.warehouse.records import LOAD_COLUMNS, LOAD_ID, ROW, Target, arrow_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from granary.cdc.rows import Key
    from granary.sources.spec import Source, Table
    from granary.warehouse.records import Change
    from granary.warehouse.writer import LoadTransaction

OURS = frozenset([*(column.name for column in CHANGE_COLUMNS), *(field.name for field in LOAD_COLUMNS)])


def changes_target(source: Source, table: Table) -> Target:
    """Return the raw change table."""
    contract = changes_table(table)
    return Target(source.name, contract.name, contract.schema, ())


def ensure(tx: LoadTransaction, source: Source, table: Table) -> tuple[Target, list[Change]]:
    """Give the current table the columns that the change table has; return it, and what changed in it."""
    columns = tx.columns(changes_target(source, table))
    fields = [pa.field(name, arrow_type(kind)) for name, kind in columns.items() if name not in OURS]
    target = Target(source.name, table.name, pa.schema(fields), table.key)
    return target, tx.ensure_table(target)


def apply(
    tx: LoadTransaction, changes: Target, target: Target, load_id: int, rows: int, *, resets: bool, moves: bool
) -> tuple[int, int]:
    """Bring the current table to where the changes of one load, so many rows, leave it.

    Of each key only the last change counts: keys whose row is gone are deleted, the others get the row of their last
    change. A changed key leaves its earlier one as a key without a row (`moves`: some do). What came before the last
    truncate of the load does not count at all (`resets`: there is one).

    Returns:
        Rows inserted or updated, and rows deleted.
    """
    load = f"{LOAD_ID} = {int(load_id)}"
    key = [quote_name(name) for name in target.key]
    names = ", ".join(quote_name(name) for name in [*target.schema.names, LOAD_ID, ROW])
    listed = ", ".join(key)
    # So that the block range index finds the load's rows, however many there are of others.
    tx.update_statistics(changes, rows)
    tx.execute("set local enable_seqscan = off")
    after, deleted = -1, 0
    if resets:
        ((after,),) = tx.query(
            f"select max({ROW}) from {changes.sql_name} where {load} and cdc_op in ('truncate', 'reset')"
        )
        deleted = count(tx.connection, f"delete from {target.sql_name}")
        tx.note(target, deleted - tx.expected(target))  # it is whole again, whatever others did to it
        tx.recount(changes)
    some = f"{load} and {ROW} > {int(after)}"
    events = f"select {listed}, {ROW}, cdc_op = 'delete' as gone from {changes.sql_name} where {some}"
    if moves:
        earlier = ", ".join(f"earlier.{name}" for name in key)
        events += (
            f" union all select {earlier}, moved.{ROW}, true from {changes.sql_name} as moved,"
            f" jsonb_populate_record(null::{target.sql_name}, moved.cdc_key_before::jsonb) as earlier"
            f" where moved.{load} and moved.{ROW} > {int(after)} and moved.cdc_key_before is not null"
        )
    same = " and ".join(f"t.{name} = last.{name}" for name in key)
    # A round trip for each part: what needs no answer goes together.
    tx.execute(
        "create temporary table cdc_last on commit drop as"
        f" select distinct on ({listed}) {listed}, {ROW}, gone from ({events}) as events order by {listed}, {ROW} desc;"
        " set local enable_seqscan = on"
    )
    deleted += count(tx.connection, f"delete from {target.sql_name} as t using cdc_last as last where {same}")
    tx.execute("set local enable_seqscan = off")
    stored = count(
        tx.connection,
        f"insert into {target.sql_name} ({names}) select {names} from {changes.sql_name} where {load}"
        f" and {ROW} in (select {ROW} from cdc_last where not gone)",
    )
    tx.execute("set local enable_seqscan = on; drop table cdc_last")
    tx.note(target, stored - deleted)
    tx.update_statistics(target, stored + deleted)
    return stored, deleted


def stored_texts(
    tx: LoadTransaction, target: Target, keys: Sequence[Key], columns: Sequence[str]
) -> Mapping[Key, tuple[str | None, ...]]:
    """Return, as text, some columns of the current table for those of the keys that it has."""
    kinds = tx.columns(target)
    if not set(columns) <= set(kinds):
        return {}
    names = [f"key_{number}" for number in range(len(target.key))]
    given = pa.table([pa.array(values, pa.string()) for values in zip(*keys, strict=True)], names=names)
    copy_into_new(tx.connection, "cdc_wanted", given.schema, given.to_batches())
    same = " and ".join(
        f"t.{quote_name(column)} = w.{name}::{kinds[column]}" for column, name in zip(target.key, names, strict=True)
    )
    wanted = ", ".join([*(f"w.{name}" for name in names), *(f"t.{quote_name(name)}::text" for name in columns)])
    rows = tx.query(f"select {wanted} from cdc_wanted as w join {target.sql_name} as t on {same}")
    tx.execute("drop table cdc_wanted")
    return {tuple(row[: len(names)]): tuple(row[len(names) :]) for row in rows}


def lacking(tx: LoadTransaction, target: Target, batches: Iterable[pa.RecordBatch]) -> list[Key]:
    """Return, as text, the keys of the current table that are not among some others, given in batches."""
    arriving = iter(batches)
    first = next(arriving, None)
    if first is None:
        first = pa.RecordBatch.from_pylist([], schema=pa.schema([target.schema.field(name) for name in target.key]))
    copy_into_new(tx.connection, "cdc_present", first.schema, chain([first], arriving))
    same = " and ".join(f"t.{quote_name(column)} = p.{quote_name(column)}" for column in target.key)
    wanted = ", ".join(f"t.{quote_name(column)}::text" for column in target.key)
    rows = tx.query(
        f"select {wanted} from {target.sql_name} as t where not exists (select from cdc_present as p where {same})"
    )
    tx.execute("drop table cdc_present")
    return [tuple(row) for row in rows]
