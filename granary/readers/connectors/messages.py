"""The messages of Singer, a line of JSON each: where the record is in one, and what the others say.

The specification is at the Singer project's `docs/SPEC.md`; ACTIVATE_VERSION and BATCH are the extensions that its
targets and the SDK agree on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from granary.warehouse.json_text import NotJsonError, decode

TYPES = ("SCHEMA", "RECORD", "STATE", "ACTIVATE_VERSION", "BATCH")
HEAD = re.compile(rb'\{\s*"type"\s*:\s*"RECORD"\s*,\s*"stream"\s*:\s*"([^"\\]*)"\s*,\s*"record"\s*:\s*(?=\{)')
TAIL = re.compile(rb'((?:\s*,\s*"(?:version|time_extracted|sequence)"\s*:\s*(?:"[^"\\]*"|-?\d+|null))*)\s*\}\s*$')
VERSION = re.compile(rb'"version"\s*:\s*(\d+)')
TAIL_BYTES = 240


@dataclass(frozen=True)
class Record:
    """A record as it was written, in JSON, and the version of the table that it belongs to, if it says one."""

    text: bytes
    version: int | None


class Heads:
    """How a tap begins its records: the same letters each time, so that a record is cut out without being parsed."""

    def __init__(self) -> None:
        self.known: dict[bytes, str] = {}

    def record(self, line: bytes) -> tuple[str, Record] | None:
        """Return the stream and the record of a line, None if it is none or written in an unusual order."""
        for head, stream in self.known.items():
            if line.startswith(head):
                return self._cut(line, stream, len(head))
        found = HEAD.match(line)
        if not found:
            return None
        stream = found[1].decode("utf-8", "replace")
        self.known[found[0]] = stream
        return self._cut(line, stream, found.end())

    @staticmethod
    def _cut(line: bytes, stream: str, start: int) -> tuple[str, Record] | None:
        tail = TAIL.search(line, max(start, len(line) - TAIL_BYTES))
        if not tail:
            return None
        text = line[start : tail.start()]
        if not (text.startswith(b"{") and text.endswith(b"}")):
            return None
        version = VERSION.search(tail[1]) if tail[1] else None
        return stream, Record(text, int(version[1]) if version else None)


def message(line: bytes) -> dict[str, Any] | str:  # noqa: PLR0911 - one kind of message, one line
    """Return a message, or why a line is none: a clause about it."""
    try:
        value = decode(line)
    except NotJsonError as error:
        return str(error)
    if not isinstance(value, dict) or value.get("type") not in TYPES:
        return f"is no message of Singer ({', '.join(TYPES)})"
    if value["type"] == "STATE":
        return value if "value" in value else "is a STATE without a value"
    if not isinstance(value.get("stream"), str):
        return f"is a {value['type']} that names no stream"
    if value["type"] == "SCHEMA" and not isinstance(value.get("schema"), dict):
        return "is a SCHEMA without a schema"
    if value["type"] == "ACTIVATE_VERSION" and not isinstance(value.get("version"), int):
        return "is an ACTIVATE_VERSION without a version"
    if value["type"] == "RECORD" and "record" not in value:
        return "is a RECORD without a record"
    return value
