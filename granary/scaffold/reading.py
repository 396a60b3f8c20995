"""How the columns of a sample are read: their types, words that stand for no value, and what text could be cast to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc

from granary.load.contract import without
from granary.load.types import cast
from granary.profiling.inference import infer, null_words
from granary.profiling.names import is_code
from granary.profiling.written import ENOUGH, Written, written
from granary.warehouse.errors import GranaryError
from granary.warehouse.records import sql_type

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from granary.scaffold.agreed import Agreed, AgreedTable

Text = Literal["all", "times", "none"]
"""Of which text in a sample types are to be found: all (CSV), only dates and times (JSON), none (what has types)."""

SHORT_YEARS = r"^\d{1,2}[-/.]\d{1,2}[-/.]\d{2}($|[ T])"
THOUSANDS = r"^-?[1-9]\d{0,2}(\.\d{3})?$"
SCALAR = r"^(-?\d+(\.\d+)?([eE][-+]?\d+)?|[Tt]rue|[Ff]alse)$"
WIDEST = 38
SURE = 1.0
HOW = {
    "ymd": "yyyy/mm/dd", "dmy": "dd/mm/yyyy", "mdy": "mm/dd/yyyy", "dMy": "dd Mon yyyy", "Mdy": "Mon dd, yyyy",
    ".": "1,234.5", ",": "1.234,5", "": "hh:mm",
}  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """A column of a sample, in the type that a contract will have.

    `null` are the words that stand for no value, `written` what its text could be cast to, and `notes` what a person
    should know of these guesses.
    """

    values: pa.ChunkedArray
    null: tuple[str, ...] = ()
    written: Written | None = None
    notes: tuple[str, ...] = ()
    mixed: bool = False
    """Whether a text of JSON may also be a number or a truth value."""


def read(
    sample: pa.Table,
    text: Text,
    *,
    words: Collection[str] | None = None,
    known: Collection[str] = (),
    numbers: Collection[str] = (),
    opaque: Collection[str] = (),
) -> list[Reading]:
    """Return how each column of a sample is read.

    Args:
        sample: columns with the source's own names.
        text: of which text types are to be found.
        words: the words that stand for no value, if a person gave them; None to find them.
        known: such words of the source's other columns.
        numbers: columns of text that are plain numbers by declaration.
        opaque: columns of text that are something else by declaration, and stay what they are.
    """
    columns = [_typed(sample[name], name, text, words, known) for name in sample.column_names]
    names = sample.column_names
    looks = [
        _number(one.values)
        if name in numbers
        else written(one.values)
        if pa.types.is_string(one.values.type) and name not in opaque
        else None
        for name, one in zip(names, columns, strict=True)
    ]
    styles = {look.style for look in looks if look and not look.unsure and not look.torn}
    return [
        _commented(
            sample[name], one, look if name in numbers or not look else written(one.values, styles), "," in styles
        )
        for name, one, look in zip(names, columns, looks, strict=True)
    ]


def as_agreed(sample: pa.Table, readings: Sequence[Reading], agreed: AgreedTable) -> list[Reading]:
    """Return the readings with the columns that the source's owner has promised in the types that were agreed.

    Raises:
        GranaryError: the sample lacks a column that it always has, or a value is none of the agreed type.
    """
    missing = [one.name for one in agreed.columns.values() if one.required and one.name not in sample.column_names]
    if missing:
        raise GranaryError(
            f"{', '.join(missing)} is agreed, and did not come",
            agreed.name,
            "ask the source's owner, or correct the contract",
        )
    return [
        _in_type(sample[name], one, agreed.columns[name], agreed.name) if name in agreed.columns else one
        for name, one in zip(sample.column_names, readings, strict=True)
    ]


def _in_type(values: pa.ChunkedArray, reading: Reading, agreed: Agreed, table: str) -> Reading:
    if reading.values.type == agreed.type:
        return Reading(reading.values, reading.null)
    given = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    found, misfits = cast(without(given, reading.null), agreed.type, text=True)
    if misfits is not None and (wrong := pc.sum(misfits).as_py()):
        raise GranaryError(
            f"{agreed.name} is agreed to be {sql_type(agreed.type)}, and {wrong:,} of {len(given):,} values are not",
            table,
            "ask the source's owner, or correct the contract",
        )
    return Reading(pa.chunked_array([found]), reading.null)


def _number(values: pa.ChunkedArray) -> Written:
    """Return how text that a database declares as numbers is read: all but its NaN and infinities."""
    known = values.drop_null()
    plain = pc.sum(pc.match_substring_regex(known, r"^-?\d+(\.\d+)?$")).as_py() or 0
    return Written("number", ".", plain / max(len(known), 1))


def null_words_in(sample: pa.Table, text: Text) -> set[str]:
    """Return the words that stand for no value among the numbers, dates and times of a sample of text."""
    if text != "all":
        return set()
    texts = [sample[name] for name in sample.column_names if pa.types.is_string(sample[name].type)]
    found = [(values, null_words(values)) for values in texts]
    return {word for values, words in found if words and _infer(values, words) != pa.string() for word in words}


def typed(sample: pa.Table, *, text: Text) -> pa.Table:
    """Return a sample in the types that a contract will have, cast as the load seam will cast them."""
    columns = [_typed(sample[name], name, text, (), ()).values for name in sample.column_names]
    return pa.Table.from_arrays(columns, names=sample.column_names)


def _infer(values: pa.ChunkedArray, words: Sequence[str], *, only_times: bool = False) -> pa.DataType:
    return infer(_without(values, words), only_times=only_times)


def _without(values: pa.ChunkedArray, words: Sequence[str]) -> pa.ChunkedArray:
    return pa.chunked_array([without(chunk, words) for chunk in values.chunks], values.type) if words else values


def _typed(
    values: pa.ChunkedArray, name: str, text: Text, words: Collection[str] | None, known: Collection[str]
) -> Reading:
    if not pa.types.is_string(values.type):
        return _of_type(values)
    if words is None:
        # Of a source with types a text is what it says; in JSON, numbers are numbers and their words are text.
        null = null_words(values, known, only_times=text == "times") if text != "none" else ()
    else:
        trimmed = pc.unique(pc.utf8_trim_whitespace(values))
        null = tuple(sorted(set(words) & set(trimmed.to_pylist())))
    kind = pa.string() if text == "none" else _infer(values, null, only_times=text == "times")
    if text == "times" and null and kind != pa.string():
        null, kind = (), pa.string()  # JSON is parsed before words are looked for
    if is_code(name) and pa.types.is_integer(kind):
        kind = pa.string()
        null = null_words(values, known) if words is None and null and not set(null) <= set(known) else null
    bare = _without(values, null)
    chunks = [cast(chunk, kind, text=text != "none")[0] for chunk in bare.chunks]
    mixed = text == "times" and pa.types.is_string(kind) and pc.any(pc.match_substring_regex(bare, SCALAR)).as_py()
    return Reading(pa.chunked_array(chunks, type=kind), null, mixed=bool(mixed))


def _of_type(values: pa.ChunkedArray) -> Reading:
    """Return a column of a source with types in the type of a raw column; what has none is text."""
    kind = raw_type(values.type)
    chunks = [cast(chunk, kind)[0] for chunk in values.chunks]
    return Reading(pa.chunked_array(chunks, type=kind))


def raw_type(kind: pa.DataType) -> pa.DataType:
    """Return the type in which a raw table holds what a typed source delivers; what has none lands as text."""
    t = pa.types
    if t.is_dictionary(kind):
        return raw_type(kind.value_type)
    if t.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    if t.is_decimal(kind):
        precision, scale = kind.precision - min(kind.scale, 0), max(kind.scale, 0)
        return pa.decimal128(precision, scale) if precision <= WIDEST else pa.decimal256(precision, scale)
    if t.is_large_binary(kind) or t.is_fixed_size_binary(kind) or t.is_binary_view(kind):
        return pa.binary()
    wider = {pa.int8(): pa.int16(), pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64()}
    wider |= {pa.uint64(): pa.decimal128(20, 0), pa.float16(): pa.float32(), pa.date64(): pa.date32()}
    kind = wider.get(kind, kind)
    try:
        sql_type(kind)
    except GranaryError:
        return pa.string()
    return kind


def _have_short_years(values: pa.ChunkedArray) -> bool:
    """Return whether most texts are dates such as 31/12/24."""
    texts = pc.utf8_trim_whitespace(values.drop_null())
    return len(texts) > 0 and pc.sum(pc.match_substring_regex(texts, SHORT_YEARS)).as_py() >= ENOUGH * len(texts)


def _commented(received: pa.ChunkedArray, one: Reading, look: Written | None, commas: bool) -> Reading:
    """Return the reading with what a person should know of it."""
    notes: list[str] = []
    kind = one.values.type
    if one.null:
        count = one.values.null_count - received.null_count
        notes.append(f"{', '.join(one.null)} taken for no value in {count:,} of {len(received):,} rows")
    if look is not None:
        share = f"{math.floor(100 * look.share)} %" if look.share < SURE else "all"
        how = look.style if look.kind == "boolean" else HOW[look.style]
        if look.torn:
            notes.append(f"{share} of its values look like {how}, others are written in another way: it stays text")
            look = None
        elif look.unsure and look.kind in ("date", "timestamp"):
            notes.append("its dates do not tell whether the day or the month comes first: it stays text")
            look = None
        else:
            guess = ", with the comma taken for thousands" if look.unsure and look.style == "." else ""
            notes.append(f"text; {share} of its values are {look.kind}s as in {how}{guess}, read so in staging")
    elif pa.types.is_string(kind) and _have_short_years(one.values):
        notes.append("its dates have years of two digits: it stays text, unless you say how they are written (dates)")
    if pa.types.is_decimal(kind) and pa.types.is_string(received.type) and kind.scale == 3:  # noqa: PLR2004
        values = _without(received, one.null)
        texts = pc.utf8_trim_whitespace(pc.unique(values).drop_null())
        three = texts.filter(pc.match_substring_regex(texts, r"\.\d{3}$"))
        if pc.all(pc.match_substring_regex(three, THOUSANDS)).as_py():
            notes.append("1.234 is read as a fraction, not as thousands")
            if commas and pc.all(pc.match_substring_regex(texts, f"{THOUSANDS}|^$")).as_py():
                # The table's other numbers have a comma before their decimals.
                look = written(values, (",",))
                notes[-1] = (
                    "1.234 is text: in the other numbers the comma stands before decimals, so read so in staging"
                )
                return Reading(values, one.null, look, tuple(notes))
    if pa.types.is_floating(kind) and pa.types.is_string(received.type):
        notes.append("numbers are read as floating point")
    return Reading(one.values, one.null, look, tuple(notes), one.mixed)
