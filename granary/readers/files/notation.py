"""How a text writes numbers, dates and times, where that is not the way of the contract's types."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from granary.load.contract import row_of, without
from granary.load.types import cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.sources.spec import Table

Misfits = dict[int, tuple[str, str, dict[str, Any]]]
"""By a row's place in its batch: the column at fault, the reason, and the row with that value as it was received."""

AS_WRITTEN = "in the notation that is declared for its file"
"""Ends the reason of a value that is none in its file's way of writing, whatever it would be in another."""

MAYBE_THOUSANDS = "has three decimals, more than are agreed, and may be in thousands"
"""The reason of a number such as 1.000 where two decimals are agreed."""

THREE = 3
"""Digits of a group of thousands."""

PLAIN = re.compile(r"([^%]|%[dmYHMS])*")
"""A pattern from whose value the text can be written again, character by character."""


@dataclass(frozen=True)
class Notation:
    """How numbers and times are written.

    `decimal` is the decimal point, `thousands` what stands between groups of three digits ("" if nothing may), `dates`
    are `strptime` patterns.
    """

    decimal: str = "."
    thousands: str = ""
    dates: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the options."""
        if len(self.decimal) != 1 or self.decimal.isalnum() or len(self.thousands) > 1 or self.thousands.isalnum():
            raise ValueError("decimal and thousands are one character each, and no letter or digit")
        if self.decimal == self.thousands:
            raise ValueError(f"{self.decimal!r} cannot stand before decimals and between thousands")
        for pattern in self.dates:
            _check(pattern)

    def applies_to(self, wanted: pa.DataType) -> bool:
        """Return whether values of a type are written in a way of their own."""
        t = pa.types
        if t.is_timestamp(wanted) or t.is_date(wanted):
            return bool(self.dates)
        number = t.is_integer(wanted) or t.is_floating(wanted) or t.is_decimal(wanted)
        return number and (self.decimal != "." or bool(self.thousands))

    def settled(
        self, batch: pa.RecordBatch, types: Mapping[str, pa.DataType], words: Mapping[str, tuple[str, ...]]
    ) -> tuple[pa.RecordBatch, Misfits]:
        """Read the columns of text that are written in a way of their own, and find numbers that are unclear.

        Where fewer than three decimals are agreed, `1.000` is either written as never before, or 1000.

        Args:
            batch: rows as text, or of their types already.
            types: the contract's types, by the delivered names.
            words: likewise texts that stand for no value.

        Returns:
            The batch, and the rows in which a value is not so written.
        """
        columns, wrong = [], []
        for name, values in zip(batch.schema.names, batch.columns, strict=True):
            wanted, values = types.get(name), without(values, words.get(name, ()))  # noqa: PLW2901
            if wanted is None or not pa.types.is_string(values.type):
                columns.append(values)
                continue
            if may_be_thousands(wanted) and pc.any(unclear := self._unclear(values)).as_py():
                wrong.append((name, MAYBE_THOUSANDS, values, unclear))
                values = pc.if_else(unclear, pa.scalar(None, pa.string()), values)  # noqa: PLW2901
            if not self.applies_to(wanted):
                columns.append(values)
                continue
            read, misfits = self.read(values, wanted)
            columns.append(read)
            if misfits is not None:
                wrong.append((name, f"is not a valid {wanted} {AS_WRITTEN}", values, misfits))
        settled = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
        found: Misfits = {}
        for name, reason, values, misfits in wrong:
            for index in pc.indices_nonzero(misfits).to_pylist():
                first = found.setdefault(index, (name, reason, row_of(settled, index)))
                first[2][name] = values[index].as_py()
        return settled, found

    def read(self, texts: pa.Array, wanted: pa.DataType) -> tuple[pa.Array, pa.Array | None]:
        """Return texts as values of a type that it applies to, and the mask of those that are none (None: all are)."""
        texts = pc.utf8_trim_whitespace(texts)
        texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
        temporal = pa.types.is_timestamp(wanted) or pa.types.is_date(wanted)
        rewritten = self._moments(texts, wanted) if temporal else self._numbers(texts)
        values, misfits = cast(rewritten, wanted, text=True)
        lost = pc.and_(pc.is_valid(texts), pc.is_null(rewritten))
        misfits = lost if misfits is None else pc.or_(misfits, lost)
        return values, misfits if pc.any(misfits).as_py() else None

    def _unclear(self, texts: pa.Array) -> pa.Array:
        """Return the mask of numbers such as 1.000 and -12.500: a fraction, or a group of thousands."""
        pattern = rf"^\s*[+-]?[1-9]\d{{0,2}}{re.escape(self.decimal)}\d{{{THREE}}}\s*$"
        return pc.fill_null(pc.match_substring_regex(texts, pattern), False)

    def _numbers(self, texts: pa.Array) -> pa.Array:
        """Return numbers with a point and without groups; null where a number is written otherwise."""
        point, group = re.escape(self.decimal), re.escape(self.thousands)
        whole = rf"(\d+|[1-9]\d{{0,2}}({group}\d{{3}})+)" if group else r"\d+"
        number = rf"^[+-]?({whole}({point}\d*)?|{point}\d+)([eE][+-]?\d+)?$"
        right = pc.or_(pc.match_substring_regex(texts, number), pc.match_substring_regex(texts, r"^\D*$"))
        bare = pc.replace_substring(texts, self.thousands, "") if group else texts
        return pc.if_else(right, pc.replace_substring(bare, self.decimal, "."), pa.scalar(None, pa.string()))

    def _moments(self, texts: pa.Array, wanted: pa.DataType) -> pa.Array:
        """Return dates and times in ISO 8601; null where one is written otherwise."""
        done = pa.nulls(len(texts), pa.string())
        for pattern in self.dates if PLAIN.fullmatch("".join(self.dates)) else ():
            # Arrow reads 31.02. as 3 March: what it read is right if, written again, it is the text.
            found = pc.strptime(texts, pattern, "s", error_is_null=True)
            same = pc.equal(pc.strftime(found, pattern), texts)
            done = pc.coalesce(done, pc.if_else(same, found.cast(pa.string()), pa.scalar(None, pa.string())))
        not_loaded = pc.and_(pc.is_valid(texts), pc.is_null(done))
        if pc.any(not_loaded).as_py():
            rest = pc.if_else(not_loaded, texts, pa.scalar(None, pa.string())).dictionary_encode()
            words = pa.array([self._moment(each) for each in rest.dictionary.to_pylist()], pa.string())
            done = pc.coalesce(done, words.take(rest.indices))
        if pa.types.is_date(wanted):
            return pc.replace_substring_regex(done, r" 00:00:00(\.0+)?$", "")
        return done

    def _moment(self, text: str) -> str | None:
        for pattern in self.dates:
            try:
                found = datetime.strptime(text, pattern)  # noqa: DTZ007 - with a zone if the pattern has one
                if not re.search("%[fz]", pattern) and _digits(found.strftime(pattern)) != _digits(text):
                    continue  # 2024022 for %Y%m%d: a digit is missing
                found = found if found.tzinfo is None else found.astimezone(timezone.utc)
            except (ValueError, OverflowError):
                continue
            return found.isoformat(sep=" ")
        # A text that begins with its year is not ISO 8601 if a pattern says so: 2023-01-31 for %Y-%d-%m is a mistake.
        return None if any(pattern.startswith("%Y") for pattern in self.dates) else text


def may_be_thousands(wanted: pa.DataType) -> bool:
    """Return whether a type has fewer decimals than a group of thousands has digits, so that 1.000 is unclear."""
    return bool(pa.types.is_decimal(wanted) and 0 <= wanted.scale < THREE)


def null_words_of(table: Table) -> dict[str, tuple[str, ...]]:
    """Return the texts that stand for no value in a table's columns, by each name that these may have."""
    return {name: column.null for column in table.columns if column.null for name in (column.name, *column.aliases)}


def _digits(text: str) -> str:
    """Return a text whose numbers have no zeros before them: what is left is what it says."""
    return re.sub(r"0*(\d+)", r"\1", " ".join(text.split())).casefold()


def _check(pattern: str) -> None:
    """Refuse a pattern that is none, or with which part of what is written would be left out or made up.

    Raises:
        ValueError: it is one.
    """
    if not re.search(r"%[YyGcx]", pattern):
        raise ValueError(f"dates: {pattern!r} has no year")
    moment = datetime(2004, 2, 29, 13, 14, 15, 678901, timezone.utc)
    try:
        written = moment.strftime(pattern)
        if datetime.strptime(written, pattern).replace(tzinfo=timezone.utc).strftime(pattern) != written:
            raise ValueError(f"what it writes, {written!r}, is read as something else")
    except ValueError as error:
        raise ValueError(f"dates: {pattern!r} is not a pattern of strptime: {error}") from None
    if ("%I" in pattern) != ("%p" in pattern):
        raise ValueError(f"dates: {pattern!r} has but one of %I (hours up to 12) and %p (AM or PM)")
    if "%Z" in pattern:
        raise ValueError(f"dates: {pattern!r} has a zone's name, which tells no offset; %z reads offsets")
