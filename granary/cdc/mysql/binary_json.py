"""MySQL's binary JSON as the text that the server writes; MariaDB keeps JSON as text.

The format is described in MySQL's sql-common/json_binary.h, how values are written in sql-common/json_dom.cc.
"""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from typing import TYPE_CHECKING

from granary.cdc.mysql import table_map as kinds
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable

    Decimal = Callable[[bytes, int, int], str]

SMALL_OBJECT, LARGE_OBJECT, SMALL_ARRAY, LARGE_ARRAY, LITERAL = range(5)
INT16, UINT16, INT32, UINT32, INT64, UINT64, DOUBLE, STRING, OPAQUE = *range(5, 13), 15
LITERALS = {0: "null", 1: "true", 2: "false"}
NUMBERS = {INT16: "<h", UINT16: "<H", INT32: "<i", UINT32: "<I", INT64: "<q", UINT64: "<Q"}
INLINED = (LITERAL, INT16, UINT16)
"""Kinds whose value stands where others have a place; in large containers 32-bit numbers do, too."""
NONE = b""
"""What a column holds whose rows were made by `alter table` and say nothing."""


def json_text(value: bytes, decimal: Decimal) -> str:
    """Return a JSON value as MySQL writes it.

    Args:
        value: the bytes.
        decimal: returns the text of a packed decimal, by its digits and those after the point.

    Raises:
        GranaryError: it is not what the format says.
    """
    try:
        return "null" if value == NONE else _value(value[0], value, 1, decimal)
    except (IndexError, struct.error, UnicodeDecodeError, KeyError) as error:
        raise GranaryError(f"a JSON value of the source's log cannot be read: {error!r}", "binary log") from None


def _value(kind: int, data: bytes, at: int, decimal: Decimal) -> str:
    if kind in (SMALL_OBJECT, LARGE_OBJECT, SMALL_ARRAY, LARGE_ARRAY):
        large, named = kind in (LARGE_OBJECT, LARGE_ARRAY), kind in (SMALL_OBJECT, LARGE_OBJECT)
        return _container(data[at:], decimal, large=large, named=named)
    if kind == LITERAL:
        return LITERALS[data[at]]
    if kind in NUMBERS:
        return str(struct.unpack_from(NUMBERS[kind], data, at)[0])
    if kind == DOUBLE:
        return _double(struct.unpack_from("<d", data, at)[0])
    if kind == STRING:
        length, at = _length(data, at)
        return json.dumps(data[at : at + length].decode(), ensure_ascii=False)
    if kind == OPAQUE:
        length, begin = _length(data, at + 1)
        return _opaque(data[at], data[begin : begin + length], decimal)
    raise KeyError(kind)


def _container(data: bytes, decimal: Decimal, *, large: bool, named: bool) -> str:
    size, form = (4, "<I") if large else (2, "<H")
    (count,) = struct.unpack_from(form, data, 0)
    at, names = 2 * size, []
    if named:
        for place in range(count):
            begin = struct.unpack_from(form, data, at + place * (size + 2))[0]
            (length,) = struct.unpack_from("<H", data, at + place * (size + 2) + size)
            names.append(json.dumps(data[begin : begin + length].decode(), ensure_ascii=False))
        at += count * (size + 2)
    values = []
    for place in range(count):
        entry = at + place * (size + 1)
        kind = data[entry]
        inlined = kind in INLINED or (large and kind in (INT32, UINT32))
        begin = entry + 1 if inlined else struct.unpack_from(form, data, entry + 1)[0]
        values.append(_value(kind, data, begin, decimal))
    if named:
        return "{" + ", ".join(f"{name}: {value}" for name, value in zip(names, values, strict=True)) + "}"
    return "[" + ", ".join(values) + "]"


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and the place after it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004
            return value, at


def _double(value: float) -> str:
    """Return a number as MySQL does: 1.0, 1.5, 1e20, 1.5e-7."""
    digits, _, exponent = repr(value).partition("e")
    if not exponent:
        return digits
    return f"{digits.removesuffix('.0')}e{int(exponent)}"


def _opaque(kind: int, data: bytes, decimal: Decimal) -> str:
    """Return a decimal as a number, a time as text, and what else SQL has as base64 with its type."""
    if kind == kinds.DECIMAL:
        return decimal(data[2:], data[0], data[1])
    packed = int.from_bytes(data[:8], "little", signed=True) if len(data) == 8 else 0  # noqa: PLR2004
    if kind in (kinds.DATE, 7, 12):
        whole, micro = packed >> 24, packed & 0xFFFFFF
        year, month = divmod(whole >> 22, 13)
        day = f"{year:04}-{month:02}-{whole >> 17 & 31:02}"
        clock = f" {whole >> 12 & 31:02}:{whole >> 6 & 63:02}:{whole & 63:02}.{micro:06}"
        return f'"{day if kind == kinds.DATE else day + clock}"'
    if kind == 11:  # noqa: PLR2004 - the type of a time
        sign, packed = "-" if packed < 0 else "", abs(packed)
        whole, micro = packed >> 24, packed & 0xFFFFFF
        return f'"{sign}{whole >> 12 & 0x3FF:02}:{whole >> 6 & 63:02}:{whole & 63:02}.{micro:06}"'
    return f'"base64:type{kind}:{b64encode(data).decode()}"'
