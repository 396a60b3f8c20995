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

from granary.privacy.suppression_list import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from granary.privacy.suppression_list import Forgotten
    from granary.sources.spec import Table
    from granary.warehouse.records import Refusal

KEY_BEFORE = "cdc_key_before"
"""The column of a change table with the key that a row had before, as JSON."""
BLANK = {"forgotten": "the text was taken out: it may have been of a household that is forgotten"}
TOKEN = re.compile(r"(?<![\w.:-])\d+(?![\w.:-])")
"""A number that stands by itself: no part of an amount, a date or a word."""

Verdict = Literal["theirs", "perhaps", "not theirs"]


def columns_of(table: Table) -> tuple[str, ...]:
    """Return the columns of a contract that hold a household's number."""
    return tuple(column.name for column in table.columns if column.subject)


def names_of(table: Table) -> frozenset[str]:
    """Return all names under which a household's number is delivered, by the contract."""
    return frozenset(name for column in table.columns if column.subject for name in (column.name, *column.aliases))


def verdict(payload: Any, names: Collection[str], is_theirs: Callable[[str], bool]) -> Verdict:
    """Say whether a row as it was received is a household's.

    Where the row has a structure, only values under one of `names` count, and the deeper ones only if there is none
    further up: what is nested in a row may be another thing's. Text without a structure (a broken line) is perhaps
    theirs if their number stands in it by itself.

    Args:
        payload: the row.
        names: those under which the contract of its table has a household's number; without one it is nobody's.
        is_theirs: says whether a number is the household's.
    """
    if not names:
        return "not theirs"
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


class Sieve:
    """Takes the rows of forgotten households out of a table's batches; looks at each household once."""

    def __init__(self, table: Table, forgotten: Forgotten) -> None:
        self.forgotten = forgotten
        self.names = names_of(table)
        self.columns = columns_of(table)

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
        if name not in self.columns:
            return None
        theirs = [value for value in pc.unique(values).to_pylist() if self.forgotten.has(value)]
        return pc.is_in(values, value_set=pa.array(theirs, values.type)) if theirs else None

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
