"""Finds tables in a database."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import closing
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.profiling.names import snake
from granary.scaffold.plan import Found, Opening
from granary.scaffold.python_text import Group, literal
from granary.warehouse.errors import GranaryError, TransientError, unknown

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from granary.readers.database import DatabaseReader, TableShape, Withheld

ROWS = 50_000
FRESHNESS = timedelta(hours=36)
LATE = "overlap=timedelta(minutes=10)"
"""How much is read again before a cursor, for rows that were committed late."""
WRITTEN = re.compile(r"(?i)char|text|clob|name|enum|money|time(?!stamp)|^$|^null$")
"""Declared types whose values are what somebody wrote. What a point, a range, a bit string or an array looks like says
nothing: `(1,2)` is no negative number, and the bits 1010 are not a thousand and ten."""
SHOWN_AS = {"postgresql": "postgres"}


def find(
    name: str, uri: str, only: Collection[str], keys: Mapping[str, tuple[str, ...]], cursors: Mapping[str, str]
) -> tuple[Opening, list[Found], str, list[str]]:
    """Find the tables of a database; views only where they are asked for.

    Returns:
        How the reader is opened, the tables, what to show the source as, and what was left out: also tables that
        cannot be read, unless they are asked for, or are all.

    Raises:
        GranaryError: the database does not answer, it has no such table, or that cannot be read.
    """
    from granary.readers.database import DatabaseReader, describe, withheld

    kept = withheld(uri)
    shapes = [shape for shape in describe(uri) if shape.columns]
    often = Counter(shape.name for shape in shapes)
    named = {shape.location if often[shape.name] > 1 else shape.name: shape for shape in shapes}
    wanted = {said: shape for said, shape in named.items() if _is_wanted(shape, said, only)}
    for missing in only:
        if not any(missing in (said, shape.location, snake(said)) for said, shape in wanted.items()):
            denied = [
                one for one in kept if missing in {*one.tables, *(name.rpartition(".")[2] for name in one.tables)}
            ]
            if denied:
                raise GranaryError(f"the login may not read {missing}", "the database", denied[0].grant)
            todo = "; ".join([f"it has {_some(sorted(named))}", *(_left_out(one) for one in kept)])
            raise unknown("table", missing, sorted(named), "the database", todo=todo)
    skipped = [f"{said}: it is a view; take it with --table {said}" for said, shape in named.items() if shape.is_view]
    reader = DatabaseReader(uri)
    found: list[Found] = []
    unread: dict[str, GranaryError] = {}
    for said, shape in wanted.items():
        try:
            found.append(_found(reader, said, shape, keys, cursors))
        except TransientError:
            raise
        except GranaryError as error:
            unread[said] = error
    if unread and (only or not found):
        raise next(iter(unread.values()))
    skipped += [f"{said}: {error.what}" for said, error in unread.items()]
    skipped += map(_left_out, kept)
    setting = f"GRANARY_{name.upper()}_URL"
    late = (LATE,) if any(table.cursor for table in found) else ()
    opening = Opening(
        imports=("from granary.readers.database import DatabaseReader",),
        expression=Group("DatabaseReader", (f"settings[{literal(setting)}]", *late)),
        settings={setting: uri},
    )
    return opening, found, SHOWN_AS.get(reader.database.dialect, reader.database.dialect), [] if only else skipped


def _left_out(one: Withheld) -> str:
    """Return what to say of tables that the login may not read."""
    return f"{_some(one.tables) if one.tables else 'what the server hides'}: the login may not read it: {one.grant}"


def _is_wanted(shape: TableShape, said: str, only: Collection[str]) -> bool:
    return bool({said, shape.location, snake(said)} & set(only)) if only else not shape.is_view


def _found(
    reader: DatabaseReader,
    said: str,
    shape: TableShape,
    keys: Mapping[str, tuple[str, ...]],
    cursors: Mapping[str, str],
) -> Found:
    sample, complete, texts, notes = _sample(reader, shape)
    given = keys.get(snake(said), keys.get("", ()))
    key = given if set(given) <= set(sample.column_names) and given else shape.key
    cursor = cursors.get(snake(said), cursors.get(""))
    if cursor not in sample.column_names:
        # A row whose cursor is null would never be read again.
        cursor = next((column for column in shape.cursors if not sample[column].null_count), None)
    cursor = cursor if key else None
    if cursor:
        notes = (
            *notes,
            f"only what is new by {cursor} is read again: what the source deletes stays; to see that, read the table"
            ' whole with disposition "replace" and no cursor',
        )
    folded = [one for one in shape.columns if one.name in key and one.collation]
    notes += tuple(
        f"{one.name} is compared by {one.collation}: keys that differ only in case or accents are one row there and two"
        " here, so that a key whose case is changed is a new row, and joins by it miss what they match there"
        for one in folded
    )
    return Found(
        name=said,
        location=shape.location,
        sample=sample,
        freshness=FRESHNESS,
        complete=complete,
        key=key,
        cursor=cursor,
        # Without a key that the database guarantees, a row cannot be found again: the table is read whole.
        whole=not key,
        notes=notes,
        numbers=frozenset(name for name in texts if "numeric" in texts[name] or "decimal" in texts[name]),
        opaque=frozenset(
            column.name for column in shape.columns if column.name not in texts and not WRITTEN.search(column.declared)
        ),
    )


def _sample(reader: DatabaseReader, shape: TableShape) -> tuple[pa.Table, bool, dict[str, str], tuple[str, ...]]:
    """Read the first rows; a column with values that its declared type cannot hold here is read as text.

    Returns:
        The rows, whether they are all, the columns that became text with their declared types, and what to say of it.
    """
    types = {column.name: column.type for column in shape.columns}
    declared = {column.name: column.declared for column in shape.columns}
    texts: dict[str, str] = {}
    said: list[str] = []
    while True:
        sample, complete, refused = _rows(reader, shape, types)
        misfits = Counter(name for name, _ in refused)
        wrong = [name for name in misfits if name in types and types[name] != pa.string()]
        if not wrong:
            break
        for name in wrong:
            types[name] = pa.string()
            texts[name] = declared[name].lower()
            share = f"{misfits[name]:,} of {sample.num_rows + len(refused):,} rows"
            said.append(f"{name} is declared as {declared[name]}, and {share} have values that do not fit: it is text")
    if refused:
        name, reason = refused[0]
        share = f"{len(refused):,} of {sample.num_rows + len(refused):,} rows"
        hint = ', unless you say zero_dates="null"' if reason == "is the zero date" else ""
        said.append(f"{share} will be refused: {name} {reason}{hint}")
        said = [words for words in said if not words.startswith(f"{name} is declared")]
    return sample, complete, texts, tuple(said)


def _rows(
    reader: DatabaseReader, shape: TableShape, types: Mapping[str, pa.DataType]
) -> tuple[pa.Table, bool, list[tuple[str, str]]]:
    """Return the first rows in these types, whether they are all, and of each refused row the column and the reason."""
    from granary.sources.spec import Column, Table

    own = {column.name for column in shape.columns}
    free = (name for number in count() if (name := f"column_{number}") not in own)
    aliases = dict(zip(free, shape.columns))  # noqa: B905 - there is no end of free names
    table = Table(
        name="sample",
        description="A table that nobody has described yet.",
        location=shape.location,
        columns=tuple(
            Column(name, types[column.name], "Not yet.", aliases=(column.name,)) for name, column in aliases.items()
        ),
        disposition="replace_unit",
        freshness=FRESHNESS,
    )
    batches: list[pa.RecordBatch] = []
    refused: list[tuple[str, str]] = []
    rows = 0
    (unit,) = reader.units(table, None)
    stream: Any = reader.read(table, unit, None)
    with closing(stream):
        for source_batch in stream:
            batches.append(source_batch.batch)
            refused += [
                (aliases[bad.column].name if bad.column in aliases else bad.column, bad.reason)
                for _, bad in source_batch.rejected
            ]
            rows += source_batch.rows
            if rows > ROWS:
                break
    sample = pa.Table.from_batches(batches).slice(0, ROWS)
    names = [column.name for column in shape.columns if column.name in sample.column_names]
    return sample.select(names), rows <= ROWS, refused


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (" and others" if len(names) > 12 else "") or "none"  # noqa: PLR2004
