"""Forgotten households at the load seam: which columns name one, and how their rows are left out."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from warehouse.forgotten import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from ingestion.spec import Table
    from warehouse.forgotten import Forgotten
    from warehouse.records import Refusal

KEY_BEFORE = "cdc_key_before"
"""The column of a change table with the key that a row had before, as JSON."""
BLANK = {"forgotten": "the text was taken out: it may have been of a household that is forgotten"}
TOKEN = re.compile(r"(?<![\w.:-])\d+(?![\w.:-])")
"""A number that stands by itself: no part of an amount, a date or a word."""

Verdict = Literal["theirs", "perhaps", "not theirs"]


def columns_of(table: Table) -> tuple[str, ...]:
    """Return the columns of a contract that hold a household's number."""
    return tuple(column.name for column in table.columns if column.subject)


def names_of(table: Table) -> set[str]:
    """Return all names under which a household's number is delivered, by the contract."""
    return {name for column in table.columns if column.subject for name in (column.name, *column.aliases)}


def known_names() -> frozenset[str]:
    """Return the names of all sources that there are."""
    from ingestion.sources import SOURCES  # noqa: PLC0415 - they import the readers, which know this module's callers

    return frozenset().union(*(names_of(table) for source in SOURCES.values() for table in source.tables))


def verdict(payload: Any, names: Collection[str], is_theirs: Callable[[str], bool]) -> Verdict:
    """Say whether a row as it was received is a household's.

    Where the row has a structure, only values under one of `names` count, however deep. Text without one (a broken
    line) is perhaps theirs if their number stands in it by itself.
    """
    named = list(_named(payload, names))
    if named:
        return "theirs" if any(is_theirs(canonical(value)) for value in named) else "not theirs"
    texts = _texts(payload) if not isinstance(payload, dict) or set(payload) <= {"line", "row", "base64"} else ()
    perhaps = any(is_theirs(canonical(number)) for text in texts for number in TOKEN.findall(text))
    return "perhaps" if perhaps else "not theirs"


def numbers(payload: Any, names: Collection[str]) -> set[str]:
    """Return the numbers of the households that a row as it was received is, or may be, of; it may be JSON as text."""
    found: set[str] = set()

    def note(number: str) -> bool:
        found.add(number)
        return False

    verdict(parsed(payload) if isinstance(payload, str) else payload, names, note)
    return found


def _named(value: Any, names: Collection[str]) -> Iterator[Any]:
    """Yield the values under one of the names, at any depth, also in JSON within text."""
    if isinstance(value, dict):
        for name, part in value.items():
            values = part if isinstance(part, list) else [part]  # a field that was named twice
            if str(name) in names:
                yield from (each for each in values if each is not None and not isinstance(each, (dict, list)))
            yield from _named(part, names)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _named(part, names)
    elif isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        yield from _named(parsed(value), names)


def parsed(text: str) -> Any:
    """Return what a text means, as JSON or as Python writes it (a nested value that no contract names); else None."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, (str, int, Decimal)):
        yield str(value)
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
        yield from _texts(part)


class Sieve:
    """Takes the rows of forgotten households out of a table's batches; looks at each household once."""

    def __init__(self, table: Table, forgotten: Forgotten) -> None:
        self.forgotten = forgotten
        self.names = known_names() | names_of(table)
        self.columns = columns_of(table)
        self.agreed = {column.name for column in table.columns}

    def sift(
        self, batch: pa.RecordBatch, places: pa.Array, refusals: Sequence[Refusal]
    ) -> tuple[pa.RecordBatch, pa.Array, list[Refusal], int]:
        """Return the rows and refused rows that stay, and how many do not."""
        masks = [mask for name in batch.schema.names if (mask := self._mask(name, batch.column(name))) is not None]
        kept = [one for refusal in refusals if (one := self._refusal(refusal)) is not None]
        gone = len(refusals) - len(kept)
        if masks:
            stay = pc.invert(masks[0])
            for mask in masks[1:]:
                stay = pc.and_(stay, pc.invert(mask))
            before = batch.num_rows
            batch, places = batch.filter(stay), places.filter(stay)
            gone += before - batch.num_rows
        return self._without_earlier_keys(batch), places, kept, gone

    def _mask(self, name: str, values: pa.Array) -> pa.Array | None:
        """Return which rows are of forgotten households by this column; None if none is."""
        if name in self.columns or (name not in self.agreed and name in self.names):
            theirs = [value for value in pc.unique(values).to_pylist() if self.forgotten.has(value)]
            return pc.is_in(values, value_set=pa.array(theirs, values.type)) if theirs else None
        if name in self.agreed or not pa.types.is_string(values.type):
            return None
        # A nested value that no contract names lands as text.
        nested = pc.fill_null(pc.match_substring_regex(values, "|".join(map(re.escape, sorted(self.names)))), False)
        mine = {
            index
            for index in pc.indices_nonzero(nested).to_pylist()
            if verdict(values[index].as_py(), self.names, self.forgotten.has) == "theirs"
        }
        return pa.array([index in mine for index in range(len(values))]) if mine else None

    def _refusal(self, refusal: Refusal) -> Refusal | None:
        found = verdict(refusal.payload, self.names, self.forgotten.has) if refusal.row else "not theirs"
        return None if found == "theirs" else replace(refusal, payload=BLANK) if found == "perhaps" else refusal

    def _without_earlier_keys(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Take earlier keys out that name a forgotten household; its row is in the current table no more."""
        if KEY_BEFORE not in batch.schema.names:
            return batch
        index = batch.schema.get_field_index(KEY_BEFORE)
        texts = [
            None if text is None or verdict(text, self.names, self.forgotten.has) == "theirs" else text
            for text in batch.column(index).to_pylist()
        ]
        return batch.set_column(index, batch.schema.field(index), pa.array(texts, pa.string()))
