"""Messages as JSON: bytes from outside become rows, or reasons why not. Nothing that arrives may stop the stream."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

from granary.load.json_objects import from_rows
from granary.sources.units import Rejected
from granary.streams.log import Decoded
from granary.warehouse.json_text import Flaw, NotJsonError, decode, flaw_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.sources.spec import Table
    from granary.streams.log import Message


class UnfitError(ValueError):
    """A message is not a row; the message says why, in a clause about it."""


class JsonDecoder:
    """Each message is one JSON object in UTF-8."""

    def __init__(self, table: Table, max_bytes: int) -> None:
        """Decode for this contract; a message of more than `max_bytes` is refused."""
        self.table, self.max_bytes = table, max_bytes

    def check(self, topic: str) -> list[str]:
        """Return nothing: JSON has no schema to be asked for."""
        del topic
        return []

    def decode(self, topic: str, messages: Sequence[Message]) -> list[Decoded]:
        """Return the messages' rows; one that is not a JSON object, or does not fit, is rejected alone."""
        del topic
        rows: list[dict[str, Any]] = []
        places: list[int] = []
        rejected: dict[int, Rejected] = {}
        for index, message in enumerate(messages):
            try:
                rows.append(parse_object(checked(message.value, self.max_bytes)))
                places.append(index)
            except UnfitError as error:
                rejected[index] = Rejected("", str(error), payload(message.value), message.line)
        source_batch = from_rows(self.table, rows)
        for index, bad in source_batch.rejected:
            message = messages[places[index]]
            rejected[places[index]] = Rejected(bad.column, bad.reason, payload(message.value), message.line)
        return [Decoded(source_batch.batch, tuple(sorted(rejected.items())))]


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
    """Return a JSON object; parts of it that mean nothing are a `Flaw`, as in `jsontext.decode`.

    Raises:
        UnfitError: it is not UTF-8, no JSON, or no object that means something.
    """
    row = parse_json(value)
    if isinstance(row, Flaw):
        raise UnfitError(row.reason)
    if not isinstance(row, dict):
        raise UnfitError("is not a JSON object")
    return row


def parse_json(value: bytes) -> Any:
    """Return a JSON value.

    Raises:
        UnfitError: it is not UTF-8, or no JSON.
    """
    try:
        value.decode("utf-8")
        return decode(value)
    except UnicodeDecodeError:
        raise UnfitError("is not UTF-8 text") from None
    except NotJsonError as error:
        raise UnfitError(str(error)) from None


def payload(value: bytes | None) -> dict[str, Any]:
    """Return a message as the quarantine keeps it: its JSON object, else its text, else its bytes in base64."""
    if value is None:
        return {}
    try:
        row = parse_object(value)
        if flaw_in(row) is None:
            return row
    except UnfitError:
        pass
    try:
        return {"line": value.decode("utf-8")}
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode()}
