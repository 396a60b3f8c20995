"""Messages as JSON: bytes from outside become rows, or reasons why not. Nothing that arrives may stop the stream."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from typing import TYPE_CHECKING, Any, NoReturn

from ingestion.checks import from_rows
from ingestion.spec import Rejected
from ingestion.streams.log import Decoded
from warehouse.records import LOAD_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingestion.spec import Table
    from ingestion.streams.log import Message

NAME_BYTES = 63
RESERVED = frozenset(field.name for field in LOAD_COLUMNS)
BIGGEST = 2**63
"""Whole numbers from here on fit no column."""


class UnfitError(ValueError):
    """A message is no row; the message says why, in a clause about it."""


class JsonDecoder:
    """Each message is one JSON object in UTF-8."""

    def __init__(self, table: Table, max_bytes: int) -> None:
        """Decode for this contract; a message of more than `max_bytes` is refused."""
        self.table, self.max_bytes = table, max_bytes
        self._known = {name for column in table.columns for name in (column.name, *column.aliases)}

    def check(self, topic: str) -> list[str]:
        """Return nothing: JSON has no schema to be asked for."""
        del topic
        return []

    def decode(self, topic: str, messages: Sequence[Message]) -> list[Decoded]:
        """Return the messages' rows; one that is no JSON object, or does not fit, is rejected alone."""
        del topic
        rows: list[dict[str, Any]] = []
        places: list[int] = []
        rejected: dict[int, Rejected] = {}
        for index, message in enumerate(messages):
            try:
                rows.append(self._named(parse_object(checked(message.value, self.max_bytes))))
                places.append(index)
            except UnfitError as error:
                rejected[index] = Rejected("", str(error), payload(message.value), message.line)
        chunk = from_rows(self.table, rows)
        for index, bad in chunk.rejected:
            message = messages[places[index]]
            rejected[places[index]] = Rejected(bad.column, bad.reason, payload(message.value), message.line)
        return [Decoded(chunk.batch, tuple(sorted(rejected.items())))]

    def _named(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a row whose new fields can all be columns: one sender's slip must not stop the stream.

        Raises:
            UnfitError: one cannot.
        """
        new = row.keys() - self._known
        if new and self.table.new_columns == "add" and not all(map(name_fits, new)):
            raise UnfitError("names a field that no column can have the name of")
        return row


def name_fits(name: str) -> bool:
    """Return whether a raw column can have this name."""
    return name.isprintable() and 1 <= len(name.encode()) <= NAME_BYTES and name not in RESERVED


def checked(value: bytes | None, max_bytes: int) -> bytes:
    """Return the bytes of a message.

    Raises:
        UnfitError: it has none, or too many.
    """
    if value is None:
        raise UnfitError("is empty: an event log has no deletions")
    if len(value) > max_bytes:
        raise UnfitError(f"is larger than {max_bytes:,} bytes")
    return value


def parse_object(value: bytes) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        UnfitError: it is no UTF-8, no JSON, no object, or holds what no column can: half of a surrogate pair, or a
            number that is none.
    """
    row = parse_json(value)
    if not isinstance(row, dict):
        raise UnfitError("is no JSON object")
    return row


def parse_json(value: bytes) -> Any:
    """Return a JSON value; see `parse_object`."""
    try:
        text = value.decode("utf-8")
        found = FAST.decode(text)
        if not isinstance(found, dict) or text.count('":') != len(found) or LONG.search(text):
            found = STRICT.decode(text)
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError:
        raise UnfitError("is no UTF-8 text") from None
    except UnicodeEncodeError:
        raise UnfitError("holds half of a surrogate pair") from None
    except RecursionError:
        raise UnfitError("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise UnfitError(f"is no JSON: {error.msg}") from None
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise UnfitError("names a field twice")
    return found


def _whole(digits: str) -> int:
    if len(digits) > 20 or not -BIGGEST <= int(digits) < BIGGEST:  # noqa: PLR2004 - a sign and 19 digits
        raise UnfitError("holds a whole number of more than 64 bits")
    return int(digits)


def _no_number(name: str) -> NoReturn:
    raise UnfitError(f"holds {name}, which is no JSON number")


FAST = json.JSONDecoder(parse_constant=_no_number)
STRICT = json.JSONDecoder(parse_constant=_no_number, parse_int=_whole, object_pairs_hook=_object)
"""The strict one looks at each number and object in Python, which takes three times as long. A flat object with as many
`":` as fields, and no long number, cannot hold what it refuses."""
LONG = re.compile(r"\d{19}")


def payload(value: bytes | None) -> dict[str, Any]:
    """Return a message as the quarantine keeps it: its JSON object, else its text, else its bytes in base64."""
    if value is None:
        return {}
    try:
        return parse_object(value)
    except UnfitError:
        pass
    try:
        return {"line": value.decode("utf-8")}
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode()}
