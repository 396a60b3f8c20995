"""From what was found at a source to what will be written: types, names, keys, cursors and tests."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from granary.profiling.evidence import Evidence, candidate_keys, evidence, repeats
from granary.profiling.names import looks_like_key, personal
from granary.scaffold.foreign_keys import Parent, parents
from granary.scaffold.names import cast_names, check_source, raw_names, singular, staged_names, table_names
from granary.scaffold.reading import Text, as_agreed, null_words_in, read
from granary.warehouse.errors import GranaryError, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.profiling.written import Written
    from granary.scaffold.agreed import Agreed, AgreedTable
    from granary.scaffold.python_text import Group
    from granary.scaffold.reading import Reading
    from granary.sources.spec import Disposition

CURSORS = ("updated_at", "modified_at", "last_modified", "last_updated", "changed_at", "updated", "modified")
TOUCHED = ("row_", "last_", "date_")
PROVED_ROWS = 1_000
"""Rows in which a key that is not named like one has to hold, before a load may overwrite rows by it."""
ENUMERATED = re.compile(r"\w[\w .,&/+-]*")
"""Values that a test may name: what Jinja, YAML or SQL could take for something else is left out."""


@dataclass(frozen=True)
class Found:
    """A table as an adapter found it: where the reader finds it, and a sample with the source's own columns.

    `text` says of which text in the sample the types are still to be found: all of it (CSV), or only dates and times
    (JSON). `complete` says that the sample is all there is. `key` and `cursor` are what the source itself declares.
    """

    name: str
    location: str
    sample: pa.Table
    freshness: timedelta
    text: Text = "none"
    complete: bool = False
    key: tuple[str, ...] = ()
    cursor: str | None = None
    whole: bool = False
    """Whether a unit's rows replace those of its earlier delivery: files, and tables without a key."""
    snapshot: bool = False
    """Whether it is read whole each time, because it cannot be asked for what is new (APIs)."""
    optional: frozenset[str] = frozenset()
    """Headers that not every delivery has."""
    numbers: frozenset[str] = frozenset()
    """Columns that are numbers by declaration and text because no type here holds them."""
    opaque: frozenset[str] = frozenset()
    """Columns of text whose declared type is none: points, ranges, arrays, bits."""
    notes: tuple[str, ...] = ()
    """What a person should know of how it was read: rows that no load will take, files that differ."""
    mixed: frozenset[str] = frozenset()
    """Columns of text that JSON may have as numbers or truth values, by what the source itself declares."""


@dataclass(frozen=True)
class Opening:
    """How the source's module opens its reader: imports, an expression, and the values that it needs."""

    imports: tuple[str, ...]
    expression: Group
    settings: Mapping[str, str] = field(repr=False)
    """Setting -> value; may hold secrets, and is written nowhere but in the owner-only file."""
    formats: tuple[Group, ...] = ()
    """Entries of the constant FORMATS, which the expression may use."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Files below the project that the expression names -> their contents."""
    topics: Mapping[str, str] = field(default_factory=dict)
    """Of a log, whose address is the one setting: table -> topic."""


@dataclass(frozen=True)
class PlannedColumn:
    """A column to be: its raw name and header, its staging name, its type, and what the sample showed of it."""

    name: str
    staged: str
    header: str
    type: pa.DataType
    seen: Evidence
    personal: Literal["identifier", "demographic", "pseudonym"] | None
    required: bool
    optional: bool = False
    """Whether it may be missing from a delivery, and is null there."""
    null: tuple[str, ...] = ()
    """Words that stand for no value."""
    mixed: bool = False
    written: Written | None = None
    """What its text can be read as, in a staging column of its own: `cast`."""
    cast: str = ""
    parent: Parent | None = None
    """The column of another table that has all of its values."""
    subject: str = ""
    """The data subject whose key it holds."""
    agreed: Agreed | None = None
    """What the source's owner has promised of it."""


@dataclass(frozen=True)
class PlannedTable:
    """A table to be."""

    name: str
    location: str
    disposition: Disposition
    freshness: timedelta
    columns: tuple[PlannedColumn, ...]
    key: tuple[str, ...]
    cursor: str | None
    complete: bool
    sure: bool = True
    """Whether the key is given, declared, or named like one, and so more than a guess."""
    description: str = ""
    """What the source's owner says of it; else what the sample shows is said."""

    @property
    def contract_key(self) -> tuple[str, ...]:
        """The key that the loader keeps unique; of units that are delivered whole, dbt's tests do that."""
        return () if self.disposition == "replace_unit" else self.key

    @property
    def rows(self) -> int:
        """Rows of the sample."""
        return self.columns[0].seen.rows


@dataclass(frozen=True)
class PlannedSource:
    """A source to be."""

    name: str
    kind: str
    opening: Opening
    tables: tuple[PlannedTable, ...]
    skipped: tuple[str, ...] = ()
    """What was left out, and why."""
    notes: tuple[str, ...] = ()
    """What was guessed, by table and column, as a person should know."""


def plan(
    name: str,
    kind: str,
    opening: Opening,
    found: Sequence[Found],
    keys: Mapping[str, tuple[str, ...]] | None = None,
    cursors: Mapping[str, str] | None = None,
    skipped: Sequence[str] = (),
    words: Mapping[str, tuple[str, ...]] | None = None,
    agreed: Mapping[str, AgreedTable] | None = None,
) -> PlannedSource:
    """Decide on everything that is to be written.

    Args:
        name: the new source.
        kind: what Dagster shows it as: csv, postgres, api and so on.
        opening: how its reader is opened.
        found: its tables.
        keys: keys that a person gave, by table; under "" for every table that has these columns.
        cursors: likewise the columns that say when a row last changed.
        skipped: what an adapter left out already.
        words: likewise the words that stand for no value; none to find them.
        agreed: what the source's owner has promised of its tables.

    Raises:
        GranaryError: the sample is not as agreed, nothing is left to load, a given key or cursor is not a column, or a
            given key identifies no row.
    """
    check_source(name)
    keys, cursors, words = dict(keys or {}), dict(cursors or {}), dict(words or {})
    named = table_names(name, [one.name for one in found])
    for given in {*keys, *cursors, *words} - {"", *named}:
        raise unknown("table", given, named, todo=f"it has {_some(named)}")
    known = set().union(*(null_words_in(one.sample, one.text) for one in found))
    tables, samples, left_out, notes = [], {}, list(skipped), []
    for table, one in zip(named, found, strict=True):
        if not one.sample.num_columns:
            left_out.append(f"{one.name}: it has no columns")
            continue
        given_words = words.get(table, words.get("")) if words else None
        readings = read(
            one.sample,
            one.text,
            words=given_words or () if words else None,
            known=known,
            numbers=one.numbers,
            opaque=one.opaque,
        )
        promised = (agreed or {}).get(table)
        if promised:
            readings = as_agreed(one.sample, readings, promised)
        made, samples[table] = _table(
            table, one, readings, keys.get(table, keys.get("", ())), cursors.get(table, cursors.get("")), promised
        )
        tables.append(made)
        notes += [f"{table}: {words}" for words in one.notes]
        notes += [
            f"{table}.{column.name}: {words}"
            for column, reading in zip(made.columns, readings, strict=True)
            for words in ([] if column.header == column.name else _renamed(column)) + list(reading.notes)
        ]
    if not tables:
        raise GranaryError(f"there is nothing to load: {'; '.join(left_out) or 'no table was found'}")
    _all_used(tables, keys, cursors)
    tables = _related(tables, samples)
    return PlannedSource(name, kind, opening, tuple(tables), tuple(left_out), tuple(notes))


def _renamed(column: PlannedColumn) -> list[str]:
    """Return what to say of a column whose name is another than its header's, if that is more than a way of writing."""
    plain = re.sub(r"[^a-z0-9]", "", column.header.lower())
    return [] if plain == column.name.replace("_", "") else [f"its header is {column.header!a}"]


def _related(tables: list[PlannedTable], samples: Mapping[str, pa.Table]) -> list[PlannedTable]:
    """Return the tables with the columns whose values are keys of another one saying so."""
    keyed = {
        table.name: (table.key[0], samples[table.name][table.key[0]])
        for table in tables
        if len(table.key) == 1 and table.complete
    }
    return [
        replace(
            table,
            columns=tuple(
                replace(column, parent=parents(table.name, column.name, samples[table.name][column.name], keyed))
                for column in table.columns
            ),
        )
        for table in tables
    ]


def _table(
    name: str,
    found: Found,
    readings: Sequence[Reading],
    given_key: tuple[str, ...],
    given_cursor: str | None,
    agreed: AgreedTable | None,
) -> tuple[PlannedTable, pa.Table]:
    headers = found.sample.column_names
    raw = raw_names(headers, name)
    staged = staged_names(raw, name)
    casts = cast_names(
        [(one, reading.written.kind) for one, reading in zip(staged, readings, strict=True) if reading.written], staged
    )
    sample = pa.Table.from_arrays([reading.values for reading in readings], names=raw)
    seen = [evidence(column, sample[column]) for column in raw]
    known = dict(zip(headers, raw, strict=True)) | {column: column for column in raw}
    promised = agreed.columns if agreed else {}
    guesses = {
        column: (promised[header].personal if header in promised else None) or personal(column, name)
        for column, header in zip(raw, headers, strict=True)
    }
    chosen = given_key if given_key and set(given_key) <= known.keys() else found.key
    key, sure = tuple(known[column] for column in chosen), bool(chosen)
    if chosen == given_key and chosen:
        _check_key(name, sample, key)
    if not chosen:
        fit = sample.select([column for column in raw if not guesses[column]])
        key = next(candidate_keys(fit, [one for one in seen if not guesses[one.name]], singular(name)), ())
        # Rows of one key take each other's place, so a mere guess must be a good one.
        proved = found.complete and sample.num_rows >= PROVED_ROWS
        sure = bool(key) and (proved or all(map(looks_like_key, key)))
    whole = found.whole or not sure
    cursor = None if whole else known.get(given_cursor or "") or (known[found.cursor] if found.cursor else None)
    if given_cursor and cursor == known.get(given_cursor) and cursor and sample[cursor].null_count:
        raise GranaryError(
            f"the given cursor {cursor} is empty in {sample[cursor].null_count:,} of {sample.num_rows:,} rows",
            name,
            "such a row would never be read again; give another column, or none to have the table read whole",
        )
    if cursor is None and not whole and not found.snapshot:
        cursor = _cursor(sample)
    columns = tuple(
        PlannedColumn(
            name=column,
            staged=staged_name,
            header=header,
            type=sample.schema.field(column).type,
            seen=one,
            personal=guesses[column],
            required=column in key or column == cursor or bool(promised.get(header) and promised[header].required),
            optional=header in found.optional and column not in key,
            null=() if column in key else reading.null,
            mixed=reading.mixed or header in found.mixed,
            written=reading.written,
            cast=casts.get(staged_name, ""),
            agreed=promised.get(header),
        )
        for column, staged_name, header, one, reading in zip(raw, staged, headers, seen, readings, strict=True)
    )
    disposition: Disposition = "replace_unit" if whole else "merge" if cursor else "replace"
    named = bool(chosen) or all(map(looks_like_key, key))
    table = PlannedTable(
        name,
        found.location,
        disposition,
        (agreed and agreed.freshness) or found.freshness,
        columns,
        key,
        cursor,
        found.complete,
        sure=named,
        description=agreed.description if agreed else "",
    )
    return table, sample


def _check_key(table: str, sample: pa.Table, key: tuple[str, ...]) -> None:
    """Refuse a given key that does not identify the rows that were seen."""
    empty = [column for column in key if sample[column].null_count]
    again = repeats(sample, key)
    if empty or again:
        what = f"{empty[0]} is empty in {sample[empty[0]].null_count:,}" if empty else f"it comes again in {again:,}"
        raise GranaryError(
            f"the given key {', '.join(key)} does not identify a row: {what} of {sample.num_rows:,} rows",
            table,
            f"give one that does: --key {table}=COLUMN,COLUMN, or leave it out to have one found",
        )


def _cursor(sample: pa.Table) -> str | None:
    """Return the column that says when a row last changed, if one does by its name and its type."""
    for wanted in CURSORS:
        for name in (wanted, *(prefix + wanted for prefix in TOUCHED)):
            if name in sample.column_names:
                values = sample[name]
                if pa.types.is_timestamp(values.type) and values.type.tz and values.null_count == 0:
                    return name
    return None


def _all_used(tables: Sequence[PlannedTable], keys: Mapping[str, tuple[str, ...]], cursors: Mapping[str, str]) -> None:
    """Refuse a key or cursor that names no column: a typing error must not silently become another key."""
    wanted = {(table, tuple(columns)) for table, columns in keys.items()}
    wanted |= {(table, (column,)) for table, column in cursors.items()}
    for given, columns in wanted:
        among = [table for table in tables if given in ("", table.name)]
        names = [{text for column in table.columns for text in (column.name, column.header)} for table in among]
        if not any(set(columns) <= known for known in names):
            raise GranaryError(
                f"{', '.join(columns)} is not among the columns" + (f" of {given}" if given else " of any table"),
                todo=f"there are {_some([column.name for table in among for column in table.columns])}",
            )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (" and others" if len(names) > 12 else "") or "none"  # noqa: PLR2004


def enumeration(column: PlannedColumn) -> tuple[str, ...]:
    """Return the values that a test may demand: none if one of them could be read as anything but itself.

    dbt renders the arguments of tests as Jinja with native types, so that "1.50" would arrive as 1.5; and
    `accepted_values` puts them between single quotes as they are.
    """
    values = column.seen.values
    return values if values and not column.personal and all(_is_plain(value) for value in values) else ()


def _is_plain(value: str) -> bool:
    if ENUMERATED.fullmatch(value) is None or value != value.strip():
        return False
    try:
        return str(ast.literal_eval(value)) == value
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return True
