"""CloudEvents 1.0 by HTTP: envelopes become rows, with the attributes as columns `ce_…` beside the fields of the data.

The event format is https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md, its JSON
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md, the modes of HTTP
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md, and the handshake
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

from granary.streams.decoding import UnfitError, parse_json
from granary.warehouse.json_text import Flaw, shown

if TYPE_CHECKING:
    from granary.sources.spec import Table

Mode = Literal["structured", "batched", "binary"]
MODES: dict[str, Mode] = {
    "application/cloudevents+json": "structured",
    "application/cloudevents-batch+json": "batched",
}
PREFIX = "ce_"
REQUIRED = ("id", "source", "specversion", "type")
QUIET = frozenset({"specversion", "datacontenttype"})
"""Attributes that say how an event is written, not what it is: they land only where the contract names them."""
DATA = frozenset({"data", "data_base64"})
NAME = re.compile(r"[a-z0-9]{1,64}")
INSTANT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
MEDIA_TYPE = re.compile(r"[\w.+!#$&^-]+/[\w.+!#$&^-]+\s*(;.*)?", re.ASCII)
ORIGIN = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:\d{1,5})?")
RATE = re.compile(r"[1-9]\d{0,8}")
SMALL = 2**31


class UnsupportedError(Exception):
    """A CloudEvent is written in a format that is not read here; the message says which are."""


def mode_of(headers: Mapping[str, str]) -> Mode | None:
    """Return how a request carries CloudEvents, or None if it carries none.

    Raises:
        UnsupportedError: it does so in another format than JSON, or in another character set than UTF-8.
    """
    kind, _, options = headers.get("content-type", "").partition(";")
    kind = kind.strip().lower()
    if not kind.startswith("application/cloudevents"):
        return "binary" if "ce-specversion" in headers else None
    charset = re.search(r"charset\s*=\s*\"?([^\s;\"]+)", options, re.IGNORECASE)
    if kind not in MODES or (charset and charset[1].lower() not in ("utf-8", "us-ascii")):
        raise UnsupportedError(f"CloudEvents are read as {' and '.join(MODES)} in UTF-8, and in binary mode")
    return MODES[kind]


def rows(mode: Mode, headers: Mapping[str, str], body: bytes, table: Table) -> list[Any]:
    """Return a request's events as rows; one that breaks the specification is a `Flaw`, and refused alone.

    Raises:
        UnfitError: the body is not JSON where it has to be, or no list where one has to be.
    """
    if mode == "binary":
        return [_row(_binary(headers, body), table)]
    found = parse_json(body)
    if mode == "structured":
        return [_row(found, table)]
    if not isinstance(found, list):
        raise UnfitError("is not a list of CloudEvents")
    return [_row(event, table) for event in found]


def key_of(row: Any) -> str | None:
    """Return the idempotency key of an event, made from its source and id; None if it lacks one of them."""
    if isinstance(row, Flaw) or not isinstance(row, dict):
        return None
    given = f"{row['ce_source']}\0{row['ce_id']}"
    return f"ce:{hashlib.sha256(given.encode()).hexdigest()}"


def handshake(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that answer a sender who asks whether it may send: it may, if it then knows a secret.

    Raises:
        UnfitError: who asks is no name of a host, or asks for a rate that is none.
    """
    answer = {"Allow": "OPTIONS, POST"}
    origin, rate = headers.get("webhook-request-origin"), headers.get("webhook-request-rate")
    if origin is None:
        return answer
    if not ORIGIN.fullmatch(origin):
        raise UnfitError("WebHook-Request-Origin is not the name of a host")
    if rate is not None and not RATE.fullmatch(rate):
        raise UnfitError("WebHook-Request-Rate is not a number of requests per minute")
    return answer | {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*"}


def _binary(headers: Mapping[str, str], body: bytes) -> Any:  # noqa: PLR0911 - one kind, one line
    """Return the event of a request in binary mode as its JSON would be; the attributes are headers."""
    event: dict[str, Any] = {name[3:]: value for name, value in headers.items() if name.startswith("ce-")}
    try:
        event = {name: unquote(value, errors="strict") for name, value in event.items()}
    except UnicodeDecodeError:
        return Flaw("has an attribute that is not UTF-8 in percent encoding", shown(event))
    if DATA & event.keys() or "datacontenttype" in event:
        return Flaw("has an attribute that is no header of its own in binary mode", shown(event))
    kind = headers.get("content-type")
    if kind is not None:
        event["datacontenttype"] = kind
    if not body:
        return event
    media = (kind or "application/json").partition(";")[0].strip().lower()
    if media == "application/json" or media.endswith("+json"):
        try:
            return event | {"data": parse_json(body)}
        except UnfitError as error:
            return Flaw(f"has data that {error}", shown(event | {"data_base64": b64encode(body).decode()}))
    if media.startswith("text/"):
        with suppress(UnicodeDecodeError):
            return event | {"data": body.decode("utf-8")}
    return event | {"data_base64": b64encode(body).decode()}


def _row(event: Any, table: Table) -> Any:
    """Return an event as a row, or as a Flaw that says what is wrong with it."""
    if not isinstance(event, dict):
        return event
    if (why := _broken(event)) is not None:
        return Flaw(why, shown(event))
    declared = {name for column in table.columns for name in (column.name, *column.aliases)}
    attributes = {
        f"{PREFIX}{name}": value
        for name, value in event.items()
        if name not in DATA and value is not None and _lands(f"{PREFIX}{name}", name, declared, table)
    }
    data = event.get("data", event.get("data_base64"))
    if not isinstance(data, dict):
        return attributes | ({f"{PREFIX}data": data} if data is not None else {})
    if taken := sorted(name for name in data if name in attributes):
        return Flaw(f"has data with a field {taken[0]}, which is an attribute's", shown(event))
    return {**data, **attributes}


def _lands(column: str, name: str, declared: Iterable[str], table: Table) -> bool:
    return column in declared or name in ("id", "source") or (name not in QUIET and table.new_columns != "refuse")


def _broken(event: Mapping[str, Any]) -> str | None:
    """Return which rule of the specification an event breaks, without what it holds."""
    for name in REQUIRED:
        if not isinstance(event.get(name), str) or not event[name]:
            return f"is no CloudEvent: its {name} is not a text, or missing"
    if event["specversion"] != "1.0":
        return "is a CloudEvent of another specversion than 1.0"
    if event.get("data") is not None and event.get("data_base64") is not None:
        return "is no CloudEvent: it has data and data_base64"
    for name, value in event.items():
        if name not in DATA and value is not None and (why := _odd(name, value)):
            return why
    if (encoded := event.get("data_base64")) is not None:
        try:
            b64decode(encoded, validate=True)
        except (TypeError, ValueError):
            return "is no CloudEvent: its data_base64 is not base64"
    return None


def _odd(name: str, value: Any) -> str | None:
    """Return which rule an attribute breaks."""
    if not NAME.fullmatch(name):
        return "is no CloudEvent: the name of an attribute has other characters than a-z and 0-9"
    if isinstance(value, Flaw):
        return value.reason
    if name in KNOWN and not (isinstance(value, str) and KNOWN[name](value)):
        return f"is no CloudEvent: its {name} is not what the specification wants"
    if isinstance(value, (str, bool)) or (isinstance(value, int) and -SMALL <= value < SMALL):
        return None
    return "is no CloudEvent: an attribute is of a type that none has"


def _is_reference(text: str) -> bool:
    try:
        urlsplit(text)
    except ValueError:
        return False
    return not re.search(r"[\s<>\"{}|\\^`\x00-\x20]", text)


KNOWN: dict[str, Callable[[str], bool]] = {
    "source": _is_reference,
    "dataschema": lambda text: _is_reference(text) and bool(urlsplit(text).scheme),
    "datacontenttype": lambda text: MEDIA_TYPE.fullmatch(text) is not None,
    "subject": bool,
    "time": lambda text: INSTANT.fullmatch(text) is not None,
    "type": bool,
}
"""Attributes of the specification -> whether a text is one."""
