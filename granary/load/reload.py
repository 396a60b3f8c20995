"""Reading a table again: because its raw table lost rows outside of Granary, or to build it anew in other types.

What the source still offers is read and takes the place of what was there. What it does not offer any more is kept, in
a rebuild by casting it to the contract's types; what is lost for good is said, and beyond the table's floor refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from granary.load.contract import Shape, conform
from granary.load.refusals import refusal_text
from granary.sources.units import SourceBatch
from granary.warehouse.binary_copy import copy_into, copy_into_new
from granary.warehouse.connection import columns_of, count, quote_name
from granary.warehouse.errors import GranaryError
from granary.warehouse.ledger import shrink
from granary.warehouse.raw_tables import archived
from granary.warehouse.records import LOAD_ID, ROW, Target, arrow_type
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from granary.sources.spec import Table
    from granary.warehouse.connection import Connection
    from granary.warehouse.writer import LoadTransaction

ASIDE = "rows_before"
ROWS = 50_000
"""Rows that are cast at a time."""
NAMED = 5
"""Units that a message names before it breaks off."""


def check_none_archived(connection: Connection, target: Target) -> None:
    """Refuse to read a table anew of which rows lie in an archive: what the source does not offer now would stay there.

    Raises:
        GranaryError: it is so.
    """
    if rows := archived(connection, target):
        place = f"{target.source}.{target.table}"
        todo = f"`granary archive-raw {place} --restore` brings them back; then load again"
        raise GranaryError(f"{rows:,} of the table's rows lie in an archive", place, todo)


def set_aside(tx: LoadTransaction, target: Target) -> int:
    """Move a raw table's rows aside, and give its columns the contract's types and its key; return how many there are.

    Views on the table stay as they are. Everything happens in the load's transaction.

    Raises:
        GranaryError: a view cannot stand on a new type.
    """
    present = tx.columns(target)
    if not present:
        return 0
    tx.execute(f"create temporary table {ASIDE} on commit drop as select * from {target.sql_name}")
    ((rows,),) = tx.query(f"select count(*) from {ASIDE}")
    watermark = tx.watermark(target.table)
    tx.truncate(target)
    if watermark and watermark.startswith("{"):  # how far streams have come: their logs are not read again
        tx.set_watermark(target.table, watermark, tx.next_load_ids(1)[0])
    _rekey(tx, target)
    return int(rows)


def _rekey(tx: LoadTransaction, target: Target) -> None:
    """Take a key away that is not the contract's; `ensure_table` gives it the one that it has."""
    key = tx.query(
        "select c.conname::text, array(select a.attname::text from pg_attribute as a where a.attrelid = c.conrelid"
        " and a.attnum = any(c.conkey) order by array_position(c.conkey, a.attnum)) from pg_constraint as c"
        " where c.conrelid = to_regclass($1) and c.contype = 'p'",
        target.sql_name,
    )
    for name, columns in key:
        if tuple(columns) != target.key:
            tx.execute(f"alter table {target.sql_name} drop constraint {quote_name(name)}")
            for column in set(columns) - {LOAD_ID, ROW}:
                tx.execute(f"alter table {target.sql_name} alter column {quote_name(column)} drop not null")


def bring_back(tx: LoadTransaction, table: Table, target: Target, offered: Collection[int], where: str) -> int:
    """Put rows back that the source did not offer again, in the contract's types; return how many.

    Args:
        tx: the load's transaction.
        table: the contract.
        target: the raw table as it is now.
        offered: loads of units that were read again; where rows have a key, that decides instead.
        where: the table, for errors.

    Raises:
        GranaryError: a row does not fit the contract; nothing of the rebuild stays.
    """
    before = columns_of(tx.connection, f"pg_temp.{ASIDE}")
    if not before:
        return 0
    now = tx.columns(target)
    condition = "true"
    if table.key and table.disposition != "replace_unit":
        same = " and ".join(f"r.{quote_name(name)}::text = b.{quote_name(name)}::text" for name in table.key)
        condition = f"not exists (select 1 from {target.sql_name} as r where {same})"
    elif offered:
        condition = f"b.{LOAD_ID} not in ({', '.join(str(int(number)) for number in offered)})"
    changed = [name for name in before if before[name] != now[name]]
    tx.execute(
        "create temporary table rows_back on commit drop as select row_number() over () as rows_back_id, b.*"
        f" from {ASIDE} as b where {condition} order by {LOAD_ID}, {ROW}"
    )
    values = [f"c.{quote_name(name)}" if name in changed else f"b.{quote_name(name)}" for name in before]
    together = ""
    if changed:
        _cast(tx, table, changed, now, where)
        together = " inner join rows_cast as c on c.rows_back_id = b.rows_back_id"
    rows = count(
        tx.connection,
        f"insert into {target.sql_name} ({', '.join(map(quote_name, before))})"
        f" select {', '.join(values)} from rows_back as b{together} order by b.rows_back_id",
    )
    tx.note(target, rows)
    tx.execute(f"drop table {ASIDE}, rows_back{', rows_cast' if changed else ''}")
    return rows


def _cast(tx: LoadTransaction, table: Table, changed: Sequence[str], now: Mapping[str, str], where: str) -> None:
    """Cast the columns whose type is another, by the contract's own rules, into a table beside the rows."""
    fields = tuple(pa.field(name, arrow_type(now[name])) for name in changed)
    shaped = Shape(fields, tuple(changed), ())
    schema = pa.schema([pa.field("rows_back_id", pa.int64()), *fields])
    copy_into_new(tx.connection, "rows_cast", schema, [])
    listed = ", ".join(f"{quote_name(name)}::text" for name in changed)
    with tx.connection.cursor("rows_back") as cursor:
        cursor.execute(f"select rows_back_id, {LOAD_ID}, {listed} from rows_back order by rows_back_id".encode())
        while rows := cursor.fetchmany(ROWS):
            numbers, loads, *texts = zip(*rows, strict=True)
            batch = pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in texts], names=list(changed))
            accepted, _, refusals = conform(table, shaped, SourceBatch(batch, text=True), 1)
            if refusals:
                raise GranaryError(
                    f"{len(refusals):,} rows that the source does not offer any more cannot be kept:"
                    f" {refusal_text(table, refusals[0])}",
                    f"{where}, load {loads[refusals[0].row - 1]}",
                    "nothing has changed; agree on a type that holds them, or delete them from the raw table first",
                )
            arrays = [pa.array(numbers, pa.int64()), *accepted.columns]
            copy_into(tx.connection, "pg_temp.rows_cast", [pa.RecordBatch.from_arrays(arrays, schema=schema)])


def settle(tx: LoadTransaction, target: Target) -> list[str]:
    """Have the ledger say what is there of each unit after rows were lost outside, and return that in words."""
    words = []
    for load_id, unit, loaded, present in tx.brought(target):
        if present < loaded:
            shrink(tx.connection, load_id, present)
            words.append(f"{loaded - present:,} of {plural(loaded, 'row')} of {unit} (load {load_id})")
    return words


def several(words: Sequence[str]) -> str:
    """Return a list as text, broken off after some."""
    return ", ".join(words[:NAMED]) + (f" and {len(words) - NAMED:,} more" if len(words) > NAMED else "")
