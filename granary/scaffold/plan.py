"""From what was found at a source to what will be written: types, names, keys, cursors and tests."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from granary.scaffold.names import check_source, raw_names, singular, staged_names, table_names
from ingestion.profiling.evidence import Evidence, candidate_keys, evidence
from ingestion.profiling.inference import infer
from ingestion.profiling.names import looks_like_key, personal
from ingestion.types import cast
from warehouse.errors import GranaryError, unknown
from warehouse.records import sql_type

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.scaffold.source import Group
    from ingestion.spec import Disposition

CURSORS = ("updated_at", "modified_at", "last_modified", "last_updated", "changed_at", "updated", "modified")
TOUCHED = ("row_", "last_", "date_")
ENUMERATED = re.compile(r"\w[\w .,&/+-]*")
"""Values that a test may name: what Jinja, YAML or SQL could take for something else is left out."""


Text = Literal["all", "times", "none"]


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


@dataclass(frozen=True)
class Opening:
    """How the source's module opens its reader: imports, an expression, and the values that it needs."""

    imports: tuple[str, ...]
    expression: Group
    settings: Mapping[str, str] = field(repr=False)
    """Setting -> value; may hold secrets, and is written nowhere but in the owner-only file."""
    formats: tuple[Group, ...] = ()
    """Entries of the constant FORMATS, which the expression may use."""


@dataclass(frozen=True)
class PlannedColumn:
    """A column to be: its raw name and header, its staging name, its type, and what the sample showed of it."""

    name: str
    staged: str
    header: str
    type: pa.DataType
    seen: Evidence
    personal: Literal["identifier", "demographic"] | None
    required: bool
    optional: bool = False
    """Whether it may be missing from a delivery, and is null there."""


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


def plan(
    name: str,
    kind: str,
    opening: Opening,
    found: Sequence[Found],
    keys: Mapping[str, tuple[str, ...]] | None = None,
    cursors: Mapping[str, str] | None = None,
    skipped: Sequence[str] = (),
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

    Raises:
        GranaryError: nothing is left to load, or a given key or cursor is no column.
    """
    check_source(name)
    keys, cursors = dict(keys or {}), dict(cursors or {})
    named = table_names(name, [one.name for one in found])
    for given in {*keys, *cursors} - {"", *named}:
        raise unknown("table", given, named, todo=f"it has {_some(named)}")
    tables, left_out = [], list(skipped)
    for table, one in zip(named, found, strict=True):
        if not one.sample.num_columns:
            left_out.append(f"{one.name}: it has no columns")
            continue
        tables.append(_table(table, one, keys.get(table, keys.get("", ())), cursors.get(table, cursors.get(""))))
    if not tables:
        raise GranaryError(f"there is nothing to load: {'; '.join(left_out) or 'no table was found'}")
    _all_used(tables, keys, cursors)
    return PlannedSource(name, kind, opening, tuple(tables), tuple(left_out))


def _table(name: str, found: Found, given_key: tuple[str, ...], given_cursor: str | None) -> PlannedTable:
    sample = typed(found.sample, text=found.text)
    raw = raw_names(sample.column_names, name)
    staged = staged_names(raw, name)
    headers = sample.column_names
    sample = sample.rename_columns(raw)
    seen = [evidence(column, sample[column]) for column in raw]
    known = dict(zip(headers, raw, strict=True)) | {column: column for column in raw}
    guesses = {column: personal(column, name) for column in raw}
    chosen = given_key if given_key and set(given_key) <= known.keys() else found.key
    key, sure = tuple(known[column] for column in chosen), bool(chosen)
    if not chosen:
        fit = sample.select([column for column in raw if not guesses[column]])
        key = next(candidate_keys(fit, [one for one in seen if not guesses[one.name]], singular(name)), ())
        # Rows of one key take each other's place, so a mere guess must be a good one.
        sure = bool(key) and (found.complete or all(map(looks_like_key, key)))
    whole = found.whole or not sure
    cursor = None if whole else known.get(given_cursor or "") or (known[found.cursor] if found.cursor else None)
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
            required=column in key or column == cursor,
            optional=header in found.optional and column not in key,
        )
        for column, staged_name, header, one in zip(raw, staged, headers, seen, strict=True)
    )
    disposition: Disposition = "replace_unit" if whole else "merge" if cursor else "replace"
    return PlannedTable(name, found.location, disposition, found.freshness, columns, key, cursor, found.complete)


def typed(sample: pa.Table, *, text: Text) -> pa.Table:
    """Return a sample in the types that a contract will have, cast as the load seam will cast them."""
    columns = []
    for values in sample.columns:
        parsed = text != "none" and pa.types.is_string(values.type)
        kind = infer(values, only_times=text == "times") if parsed else raw_type(values.type)
        chunks = [cast(chunk, kind, text=parsed)[0] for chunk in values.chunks]
        columns.append(pa.chunked_array(chunks, type=kind))
    return pa.Table.from_arrays(columns, names=sample.column_names)


def raw_type(kind: pa.DataType) -> pa.DataType:
    """Return the type in which a raw table holds what a typed source delivers; what has none lands as text."""
    t = pa.types
    if t.is_dictionary(kind):
        return raw_type(kind.value_type)
    if t.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    wider = {pa.int8(): pa.int16(), pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64()}
    wider |= {pa.uint64(): pa.decimal128(20, 0), pa.float16(): pa.float32(), pa.date64(): pa.date32()}
    kind = wider.get(kind, kind)
    try:
        sql_type(kind)
    except GranaryError:
        return pa.string()
    return kind


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
