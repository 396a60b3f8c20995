"""Where the records of a delimited text end: a newline within quotes is part of a value.

Quoting as in RFC 4180, and as Arrow's parser reads it: a quote opens a quoted value only at a field's beginning, a
doubled quote stands for one, and what follows a closing quote up to the delimiter belongs to the value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from granary.sources.units import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator

NEWLINE, RETURN = 10, 13


@dataclass(frozen=True)
class Quoting:
    """The characters that matter: one byte each; quote and escape may be empty."""

    delimiter: bytes
    quote: bytes
    escape: bytes

    @cached_property
    def record(self) -> re.Pattern[bytes]:
        """A record with its end. Written so that it never tries one text in two ways (no backtracking).

        A carriage return ends a record too, as it does for Arrow's parser.
        """
        delimiter, quote, escape = map(re.escape, (self.delimiter, self.quote, self.escape))
        escaped = escape + rb"[\s\S]|" if escape else b""
        plain = rb"(?:" + escaped + rb"[^" + delimiter + escape + rb"\r\n])*"
        field = plain
        if quote:
            inner = rb"[^" + quote + escape + rb"]*"
            quoted = quote + inner + rb"(?:(?:" + escaped + quote + quote + rb")" + inner + rb")*" + quote
            field = rb"(?:" + quoted + rb"(?!" + quote + rb")" + plain + rb"|(?!" + quote + rb")" + plain + rb")"
        return re.compile(field + rb"(?:" + delimiter + field + rb")*(?:\r\n?|\n)")

    def cut(self, data: bytes) -> int:
        """Return the end of the last whole record in data that begins with one; 0 if there is none."""
        last = data.rfind(b"\n")
        if last < 0 or not any(mark and mark in data for mark in (self.quote, self.escape)):
            return last + 1
        if not self.escape and (quotes := self._paired(data)) is not None:
            while last >= 0 and (before := int(np.searchsorted(quotes, last))) % 2:
                last = data.rfind(b"\n", 0, int(quotes[before - 1]))
            return last + 1
        return max((end for _, end in self.split(data)), default=0)

    def _paired(self, data: bytes) -> np.ndarray | None:
        """Return the places of the quotes, if every other one opens a value; None if some are mere characters."""
        text = np.frombuffer(data, np.uint8)
        quotes = np.flatnonzero(text == self.quote[0])
        opening = quotes[0::2]
        before = text[opening - 1]
        proper = (before == self.delimiter[0]) | (before == NEWLINE) | (before == RETURN) | (opening == 0)
        closing = quotes[1::2][: len(opening) - 1]
        proper[1:] |= opening[1:] == closing + 1  # a doubled quote closes and opens
        return quotes if proper.all() else None

    def split(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yield the beginning and end of each record, its newline included."""
        start = 0
        while match := self.record.match(data, start):
            yield start, match.end()
            start = match.end()


def records(blocks: Iterator[bytes], quoting: Quoting, limit: int, where: str) -> Iterator[tuple[bytes, int]]:
    """Yield runs of whole records, each with the number of its first line, from 1; the last gets its newline.

    Raises:
        UnreadableError: a record is longer than `limit` bytes, or a quoted value never ends.
    """
    rest, number = b"", 1
    for block in blocks:
        data = rest + block
        end = quoting.cut(data)
        rest = data[end:]
        if len(rest) > limit:
            line = number + data.count(b"\n", 0, end)
            if quoting.quote and quoting.quote in rest:
                _endless(where, line)
            raise UnreadableError(
                f"a row has no end: it is longer than {limit:,} bytes", f"{where}, line {line}", "is it text?"
            )
        if end:
            yield data[:end], number
            number += data.count(b"\n", 0, end)
    if rest:
        data = rest if rest.endswith(b"\n") else rest + b"\n"
        if quoting.cut(data) < len(data):
            _endless(where, number)
        yield data, number


def _endless(where: str, line: int) -> None:
    raise UnreadableError(
        "a row has no end: a quoted value is not closed", f"{where}, line {line}", "ask the source to fix it"
    )
