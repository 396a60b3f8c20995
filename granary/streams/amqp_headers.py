"""Headers of RabbitMQ's messages, of which only one is wanted: all others are skipped, whatever they hold.

pika decodes the whole table, and fails at a time beyond the year 9999, such as one in milliseconds, and at tables in
tables in tables. It fails for good, since the server gives the same message again. It also cuts off what follows the
point of a number, so that 1.5 and 1.7 would be one id.
"""

from __future__ import annotations

import struct
from typing import Any

from pika import SelectConnection, data, exceptions, frame, spec  # type: ignore[import-untyped]

WIDTHS = {
    "t": 1,
    "b": 1,
    "B": 1,
    "s": 2,
    "u": 2,
    "I": 4,
    "i": 4,
    "f": 4,
    "D": 5,
    "L": 8,
    "l": 8,
    "d": 8,
    "T": 8,
    "V": 0,
}
"""Type of a field -> its bytes. Of the others, `LONG`, four bytes say how many follow."""
LONG = "SxAF"
INEXACT = "fd"
BEFORE_FLAGS, CONTENT_TYPE, CONTENT_ENCODING, HEADERS, MORE = 12, 0x8000, 0x4000, 0x2000, 0x0001


class OneHeader(SelectConnection):  # type: ignore[misc]
    """A connection that reads one header of each message; `wanted` is its name."""

    wanted = ""

    def _read_frame(self) -> tuple[int, Any]:
        return read(self._frame_buffer, self.wanted)


def read(received: bytes, wanted: str) -> tuple[int, Any]:
    """Return how many bytes the first frame takes and that frame: 0 and None if it has not arrived as a whole.

    Raises:
        InvalidFrameError: this is no frame.
    """
    if received[:1] != bytes([spec.FRAME_HEADER]) or len(received) < spec.FRAME_HEADER_SIZE:
        return frame.decode_frame(received)  # type: ignore[no-any-return]
    kind, channel, size = struct.unpack_from(">BHL", received)
    start, end = spec.FRAME_HEADER_SIZE, spec.FRAME_HEADER_SIZE + size
    content = received[start:end]
    try:
        at = _table(content) if len(received) > end else None
        if at is None:
            return frame.decode_frame(received)  # type: ignore[no-any-return]
        behind = at + 4 + struct.unpack_from(">I", content, at)[0]
        headers = one(content[at + 4 : behind], wanted)
    except (IndexError, KeyError, struct.error):
        raise exceptions.InvalidFrameError("Headers that are no table") from None
    less = content[:at] + bytes(4) + content[behind:]
    _, found = frame.decode_frame(struct.pack(">BHL", kind, channel, len(less)) + less + received[end : end + 1])
    found.properties.headers = headers
    return end + spec.FRAME_END_SIZE, found


def _table(content: bytes) -> int | None:
    """Return where the headers are in a message's properties, or None if it has none."""
    (flags,) = struct.unpack_from(">H", content, BEFORE_FLAGS)
    at = BEFORE_FLAGS + 2
    if flags & MORE or not flags & HEADERS:
        return None
    for flag in (CONTENT_TYPE, CONTENT_ENCODING):
        at += 1 + content[at] if flags & flag else 0
    return at


def one(table: bytes, wanted: str) -> dict[str, Any]:
    """Return the header of this name, if it is there: one whose value cannot be read exactly as its bytes, in hex."""
    name, at = wanted.encode(), 0
    while at < len(table):
        key = table[at + 1 : at + 1 + table[at]]
        at += 1 + len(key)
        kind, behind = chr(table[at]), at + 1
        behind += 4 + struct.unpack_from(">I", table, behind)[0] if kind in LONG else WIDTHS[kind]
        if key == name:
            return {wanted: _value(table[at:behind])}
        at = behind
    return {}


def _value(field: bytes) -> Any:
    if chr(field[0]) not in INEXACT:
        try:
            return data.decode_value(field, 0)[0]
        except (ValueError, OverflowError, OSError, RecursionError, exceptions.AMQPError):
            pass
    return field.hex()
