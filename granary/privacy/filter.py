"""At the load seam: which columns hold keys of data subjects, and how rows of those who are forgotten are left out."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from granary.privacy.identity import identity_of, in_text
from granary.sources import subjects
from granary.sources.subjects import Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from granary.privacy.identity import Identity
    from granary.privacy.suppression_list import SuppressionList
    from granary.sources.spec import Table
    from granary.warehouse.records import Refusal

KEY_BEFORE = "cdc_key_before"
"""The column of a change table with the key that a row had before, as JSON."""
BLANK = {"forgotten": "the text was taken out: it may have been of somebody who is forgotten"}

Match = Literal["yes", "maybe", "no"]
Names = Mapping[str, Subject]
"""The names under which keys of data subjects are delivered, and whose they are."""


def columns_of(table: Table) -> Names:
    """Return the columns of a contract that hold keys of data subjects."""
    return {column.name: subjects.named(column.subject) for column in table.columns if column.subject}


def names_of(table: Table) -> Names:
    """Return all names under which keys of data subjects are delivered, by the contract."""
    return {
        name: subjects.named(column.subject)
        for column in table.columns
        if column.subject
        for name in (column.name, *column.aliases)
    }


def matches(payload: Any, names: Names, is_one: Callable[[Identity], bool]) -> Match:
    """Say whether a row as it was received is of one of those whom `is_one` knows.

    Where the row has a structure, only values under one of a subject's names count, and the deeper ones only if there
    is none further up: what is nested in a row may be another thing's. Text without a structure (a broken line) may be
    of somebody whose key stands in it by itself. By `names` of nothing, a row is nobody's.
    """
    found = [_matches(payload, subject, names, is_one) for subject in dict.fromkeys(names.values())]
    return "yes" if "yes" in found else "maybe" if "maybe" in found else "no"


def _matches(payload: Any, subject: Subject, names: Names, is_one: Callable[[Identity], bool]) -> Match:
    named = list(_named(payload, {name for name, whose in names.items() if whose == subject}))
    if named:
        return "yes" if any(is_one(identity_of(subject, value)) for value in named) else "no"
    texts = _texts(payload) if not isinstance(payload, dict) or set(payload) <= {"line", "row", "base64"} else ()
    return "maybe" if any(is_one(one) for text in texts for one in in_text(subject, text)) else "no"


def identities_in(payload: Any, names: Names) -> set[Identity]:
    """Return everybody whom a row as it was received is, or may be, of; it may be JSON as text."""
    found: set[Identity] = set()

    def note(one: Identity) -> bool:
        found.add(one)
        return False

    matches(parsed(payload) if isinstance(payload, str) else payload, names, note)
    return found


def _named(value: Any, names: Collection[str]) -> Iterator[Any]:
    """Yield the values under one of the names where it stands highest, also in JSON within text."""
    if isinstance(value, dict):
        here = [
            each  # a field that was named twice is a list
            for name, part in value.items()
            if str(name) in names
            for each in (part if isinstance(part, list) else [part])
            if not isinstance(each, (dict, list))
        ]
        yield from (each for each in here if each is not None)
        for part in () if here else value.values():
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


class RowFilter:
    """Takes the rows of those who are forgotten out of a table's batches; hashes each value of a column once."""

    def __init__(self, table: Table, suppressed: SuppressionList) -> None:
        self.suppressed = suppressed
        self.names = names_of(table)
        self.columns = columns_of(table)
        self._seen: dict[tuple[str, Any], bool] = {}

    def apply(
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
        """Return which rows are of those who are forgotten, by this column; None if none is."""
        subject = self.columns.get(name)
        if subject is None:
            return None
        theirs = []
        for value in pc.unique(values).drop_null().to_pylist():
            forgotten = self._seen.get((name, value))
            if forgotten is None:
                forgotten = self._seen[name, value] = self.suppressed.has(identity_of(subject, value))
            if forgotten:
                theirs.append(value)
        return pc.is_in(values, value_set=pa.array(theirs, values.type)) if theirs else None

    def _refusal(self, refusal: Refusal) -> Refusal | None:
        found = matches(refusal.payload, self.names, self.suppressed.has) if refusal.row else "no"
        return None if found == "yes" else replace(refusal, payload=BLANK) if found == "maybe" else refusal

    def _without_earlier_keys(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Take earlier keys out that name one who is forgotten; that row is in the current table no more."""
        if KEY_BEFORE not in batch.schema.names:
            return batch
        index = batch.schema.get_field_index(KEY_BEFORE)
        texts = [
            None if text is None or matches(text, self.names, self.suppressed.has) == "yes" else text
            for text in batch.column(index).to_pylist()
        ]
        return batch.set_column(index, batch.schema.field(index), pa.array(texts, pa.string()))
