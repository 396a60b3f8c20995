"""JSON rows to Arrow: columns by the contract's types, rows that do not fit refused alone."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.load.contract import ContractBrokenError
from granary.load.json_objects import Fields, fitted, no_object, texts, twice
from granary.readers.api.pages import dig
from granary.sources.units import Rejected, SourceBatch
from granary.warehouse.json_text import DEEPER, Flaw, shown

if TYPE_CHECKING:
    from collections.abc import Collection

    from granary.sources.spec import Column, Table

ABSENT = object()
MANY = 20
"""A column that none of so many rows has is gone."""


class Rows:
    """Turns the pages of one load into batches, and remembers which of the contract's columns have come.

    A column is found under its name or an alias; "address.city" is the part of a nested object. The other parts of
    that object, and all else that no contract names, become columns of text (address_zip); objects and lists are
    kept there as JSON. `tables` are the lists that are tables of their own.
    """

    def __init__(self, table: Table, max_depth: int, tables: Collection[str] = ()) -> None:
        self.table, self.max_depth = table, max_depth
        names = {column.name: (column.name, *column.aliases) for column in table.columns}
        self.declared = {name for several in names.values() for name in several} | set(tables)
        self.objects = {name[:i] for name in self.declared for i, letter in enumerate(name) if letter == "."}
        # The column customer may be customer.name: then the whole object is not it.
        self.names = {name: [n for n in several if n not in self.objects] for name, several in names.items()}
        self.fields = Fields(table)
        self.seen: set[str] = set()
        self.count = 0

    def source_batch(self, delivered: list[Any]) -> SourceBatch:
        """Return the rows of a page; one that is `Rejected` already stays so."""
        self.count += len(delivered)
        rejected: dict[int, Rejected] = {}
        rows: list[dict[str, Any]] = delivered
        if set(map(type, delivered)) - {dict}:
            for index, row in enumerate(delivered):
                if not isinstance(row, dict):
                    rejected[index] = row if isinstance(row, Rejected) else no_object(row)
            rows = [{} if index in rejected else row for index, row in enumerate(delivered)]
        paths = self._paths(rows, rejected)
        if self.fields.flaw(paths - self.declared - self.objects):
            for index, row in enumerate(rows):
                found = self.fields.flaw(self._paths([row], rejected) - self.declared - self.objects)
                if found and index not in rejected:
                    rejected[index] = Rejected(*found, shown(row))
            rows = [{} if index in rejected else row for index, row in enumerate(rows)]
            paths = self._paths(rows, rejected)
        arrays: dict[str, pa.Array] = {}
        for column in self.table.columns:
            name, values = self._column(column, rows, paths, rejected)
            wanted = texts if column.mixed else column.type
            arrays[name] = fitted(column.name, self._shallow(values), wanted, rows, rejected)
        for path in sorted((paths - self.declared - self.objects) & self.fields.new.keys()):
            values = _values(rows, path)
            if any(value is not None for value in values):
                name = path.replace(".", "_")
                name = path if name in arrays else name
                arrays[name] = fitted(name, self._shallow(values), texts, rows, rejected)
        batch = pa.RecordBatch.from_pydict(arrays)
        if rejected:
            batch = batch.filter(pa.array([index not in rejected for index in range(len(rows))]))
        return SourceBatch(batch, tuple(sorted(rejected.items())))

    def finish(self, where: str) -> None:
        """Check, at a unit's end, that the columns of the contract have come.

        Services leave out what is null, so a few rows without a column say nothing.

        Raises:
            ContractBrokenError: a column that may not be missing is in none of many rows.
        """
        for column in self.table.columns:
            if self.count >= MANY and column.missing == "refuse" and column.name not in self.seen:
                raise ContractBrokenError(column.name, "missing", f"none of {self.count:,} rows has it", where)

    def _paths(self, rows: list[dict[str, Any]], rejected: dict[int, Rejected]) -> set[str]:
        """Return the paths that occur: all names of the rows, and those within objects that the contract takes apart.

        What should be such an object and is none is rejected.
        """
        found = set().union(*rows)
        for path in sorted(self.objects):
            if path.partition(".")[0] not in found:
                continue
            for index, row in enumerate(rows):
                value = dig(row, path, None)
                if isinstance(value, dict):
                    found |= {f"{path}.{name}" for name in value}
                elif value is not None:
                    rejected.setdefault(index, Rejected(path, "is not a JSON object", shown(row)))
        return found

    def _column(
        self, column: Column, rows: list[dict[str, Any]], paths: set[str], rejected: dict[int, Rejected]
    ) -> tuple[str, list[Any]]:
        """Return the name under which a column came, as far as the contract should hear of it, and its values.

        A row that has it under two names is rejected: one value would be dropped.
        """
        present = [name for name in self.names[column.name] if name in paths]
        if not present:
            return column.name, [None] * len(rows)
        self.seen.add(column.name)
        if len(present) == 1:
            return column.name if "." in present[0] else present[0], _values(rows, present[0])
        found = [[name for name in present if dig(row, name, ABSENT) is not ABSENT] for row in rows]
        for index, names in enumerate(found):
            if len(names) > 1:
                rejected.setdefault(index, Rejected(*twice(column.name, names), shown(rows[index])))
        return column.name, [dig(row, names[0]) if names else None for row, names in zip(rows, found, strict=True)]

    def _shallow(self, values: list[Any]) -> list[Any]:
        """Return values with a flaw in place of each that is nested too deep."""
        if {dict, list}.isdisjoint(map(type, values)):
            return values
        return [
            Flaw(f"{DEEPER} {self.max_depth} levels", value)
            if isinstance(value, (dict, list)) and depth(value) > self.max_depth
            else value
            for value in values
        ]


def _values(rows: list[dict[str, Any]], path: str) -> list[Any]:
    try:
        return list(map(itemgetter(path), rows))
    except KeyError:
        return [dig(row, path, None) for row in rows]


def depth(value: Any) -> int:
    """Return how many levels of objects and lists a value has, without recursion."""
    level, levels = [value], 0
    while level := [part for part in level if isinstance(part, (dict, list))]:
        levels += 1
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
    return levels
