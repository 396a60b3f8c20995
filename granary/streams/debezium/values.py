"""Values of Debezium's messages as the text that a change table parses, by the types of `fields`."""

from __future__ import annotations

from base64 import b64decode, b64encode
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from granary.load.json_objects import text_of
from granary.streams.debezium.fields import CONNECT, INSTANTS, TIME, TIMES
from granary.warehouse.json_text import flaw_in, written

if TYPE_CHECKING:
    from granary.streams.debezium.fields import Field

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - in no zone, as the values are
UNAVAILABLE = "__debezium_unavailable_value"
"""What stands for a large value that an update did not change, unless the connector is told otherwise."""
MARKS = frozenset([UNAVAILABLE, b64encode(UNAVAILABLE.encode()).decode(), UNAVAILABLE.encode()])


class MisfitError(ValueError):
    """A value is none of its type; the message says why, in a clause about the column."""


def is_unavailable(value: Any) -> bool:
    """Return whether a value was left out because it did not change."""
    if isinstance(value, list):
        return len(value) == 1 and is_unavailable(value[0])
    return isinstance(value, (str, bytes)) and value in MARKS


def text(field: Field | None, value: Any, *, binary: bool = False) -> str | None:  # noqa: PLR0911 - one kind, one line
    """Return a value as text: as Postgres would write it, and what is nested as JSON.

    Args:
        field: its type; None where the message does not say it.
        value: as the message has it.
        binary: the contract has bytes there.

    Raises:
        MisfitError: it is none of its type.
    """
    if value is None:
        return None
    if flaw := flaw_in(value):
        raise MisfitError(flaw)
    try:
        if field is None:
            return hexed(value) if binary else _plain(value)
        if field.name in (f"{CONNECT}Date", f"{TIME}Date"):
            return (value if isinstance(value, date) else EPOCH.date() + timedelta(days=_whole(value))).isoformat()
        if field.name in INSTANTS:
            return _instant(value, INSTANTS[field.name])
        if field.name in TIMES:
            return _time(value, TIMES[field.name])
        if field.name == f"{CONNECT}Decimal":
            return _decimal(value, int(field.parameters.get("scale", 0)))
        if field.name == "io.debezium.data.VariableScaleDecimal":
            return _decimal(value["value"], _whole(value["scale"]))
        return hexed(value) if field.type == "bytes" or binary else _plain(value)
    except (ArithmeticError, KeyError, TypeError, ValueError):
        raise MisfitError(f"is not a valid {field.name or field.type if field else 'value'}") from None


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)) or value != int(value):
        raise ValueError("not a whole number")
    return int(value)


def _instant(value: Any, units: int) -> str:
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(" ")
    number = _whole(value)
    return (EPOCH + timedelta(microseconds=number * 1_000_000 // units)).isoformat(" ")


def _time(value: Any, units: int) -> str:
    """Return a time of day, or of MySQL a span that may be longer than a day, or less than nothing."""
    if isinstance(value, time):
        return value.isoformat()
    number = _whole(value)
    seconds, rest = divmod(abs(number), units)
    fraction = f".{rest * 1_000_000_000 // units:09}".rstrip("0") if rest else ""
    sign = "-" if number < 0 else ""
    return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{fraction}"


def _decimal(value: Any, scale: int) -> str:
    if isinstance(value, (Decimal, int)) and not isinstance(value, bool):  # an Avro reader's, or a number of JSON
        return f"{Decimal(value):f}"
    return f"{Decimal(int.from_bytes(_bytes(value), 'big', signed=True)).scaleb(-scale):f}"


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else b64decode(value, validate=True)


def hexed(value: Any) -> str:
    """Return bytes, which JSON has in base64, in hex as Postgres writes them."""
    return f"\\x{_bytes(value).hex()}"


def _plain(value: Any) -> str | None:
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return hexed(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, (dict, list)):
        try:
            return text_of(value)
        except TypeError:  # of Avro: with bytes and dates in it
            return written(value)
    return text_of(value)
