"""Values of the log as the text that the server would write for them, whole columns at a time.

How rows hold values is in MySQL's mysys/decimal.cc (decimals), mysys/my_time.cc (times) and sql/field.cc (the others).
The copy asks the server for the same texts (`selected`), so that a value is the same from either.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from granary.cdc.mysql import table_map as kinds
from granary.cdc.mysql.binary_json import json_text
from granary.cdc.mysql.server import quoted
from granary.cdc.pieces import big, gather, little
from granary.cdc.rows import BYTES
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from granary.cdc.mysql.table_map import LogColumn
    from granary.cdc.pieces import Array

ZERO, MINUS = ord("0"), ord("-")
WIDEST = 38
"""Digits of the widest decimal that a raw table gets."""
ASCII = 0x80
"""What bytes are below that mean the same in UTF-8 and in every character set of `IS_LIKE_ASCII`."""
UTF8 = "utf-8"


def kind_of(words: str) -> pa.DataType | None:
    """Return the type that a column gets where no contract names it, by its own in words; None is text.

    Dates and times stay text there: MySQL may hold 0000-00-00, and a row is not refused for a column that nobody asked
    for.
    """
    base = words.partition("(")[0].partition(" ")[0]
    digits = [int(number) for number in re.findall(r"\d+", words)] if base in ("decimal", "bit") else []
    if words == "bigint unsigned" or (base == "bit" and digits[0] > 63):  # noqa: PLR2004
        return pa.decimal128(20, 0)
    if base == "decimal":
        return pa.decimal128(*digits) if digits[0] <= WIDEST else None
    return BYTES if base in HEXED else PLAIN.get(base)


def is_bytes(column: LogColumn) -> bool:
    """Return whether a column holds bytes, which are handed over in hex."""
    return column.type == kinds.GEOMETRY or (column.type in kinds.TEXTS and column.collation == kinds.BINARY)


def selected(name: str, column_type: str) -> str:
    """Return SQL for a column of the copy, whose text is that which `texts` makes of the log.

    Args:
        name: the column.
        column_type: its type as information_schema writes it (column_type).
    """
    column, base = quoted(name), column_type.partition("(")[0].partition(" ")[0]
    if base == "float":
        return f"{column} * 1e0"
    if base == "bit":
        return f"{column} + 0"
    if base == "timestamp":
        return f"concat({column}, if({column} = 0, '', '+00'))"
    if base in HEXED:
        return f"concat('\\\\x', lower(hex({column})))"
    return f"concat({column})"


HEXED = frozenset(
    [
        "binary",
        "varbinary",
        "tinyblob",
        "blob",
        "mediumblob",
        "longblob",
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
        "geometrycollection",
        "geomcollection",
    ]
)


PLAIN: Mapping[str, pa.DataType] = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint", "year", "bit"), pa.int64()),
    **dict.fromkeys(("float", "double"), pa.float64()),
}


def rewritten(texts: pa.Array, column_type: str) -> pa.Array:
    """Return texts of the copy as `texts` writes them: of numbers that are not whole, the shortest that is the same."""
    base = column_type.partition("(")[0].partition(" ")[0]
    if base in ("float", "double"):
        return texts.cast(pa.float64()).cast(pa.float32() if base == "float" else pa.float64()).cast(pa.string())
    return texts


def texts(
    data: Array, column: LogColumn, starts: Array, lengths: Array, valid: Array, codecs: Mapping[int, str]
) -> pa.Array:
    """Return a column of images as text; null where it is null.

    Args:
        data: the bytes.
        column: what the values are.
        starts: where each value begins.
        lengths: how many bytes it has, 0 where it is null.
        valid: whether there is one.
        codecs: Python's codec for the text of each collation.

    Raises:
        GranaryError: the character set is not known.
    """
    if column.type in READ:
        if valid.all():
            return READ[column.type](data, starts, column)
        return READ[column.type](data, starts[valid], column).take(pa.array(np.cumsum(valid) - 1, mask=~valid))
    if is_bytes(column):
        return _hex(data, column, starts, lengths, valid)
    if column.type == kinds.JSON:
        return _each(data, starts, lengths, valid, lambda value: json_text(value, _one_decimal))
    codec = codecs.get(column.collation)
    if codec is None:
        raise GranaryError(
            f"column {column.name} has a character set that is not known here (collation {column.collation})",
            "binary log",
            "convert it to utf8mb4 at the source, then `granary capture SOURCE --snapshot`",
        )
    raw = gather(data, starts, lengths, valid)
    is_ascii = is_like_ascii(codec) and np.frombuffer(raw.buffers()[2], np.uint8).max(initial=0) < ASCII
    if codec == UTF8 or is_ascii:
        return raw
    return _each(data, starts, lengths, valid, lambda value: decoded(value, codec))


def is_like_ascii(codec: str) -> bool:
    """Return whether bytes below 0x80 are ASCII in an encoding, alone and within other characters."""
    return codec.startswith(("cp1", "cp8", "iso8859", "koi8", "mac", "tis", "euc"))


def decoded(value: bytes, codec: str) -> str:
    """Return text; MySQL's latin1 is Windows' 1252, and has the control characters where that has nothing."""
    try:
        return value.decode(codec)
    except UnicodeDecodeError:
        if codec != "cp1252":
            raise
        return "".join(
            bytes([byte]).decode("latin-1" if byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else codec) for byte in value
        )


def _each(data: Array, starts: Array, lengths: Array, valid: Array, read: Callable[[bytes], str]) -> pa.Array:
    """Read values one by one."""
    found = [
        read(data[start : start + length].tobytes()) if there else None
        for start, length, there in zip(starts.tolist(), lengths.tolist(), valid.tolist(), strict=True)
    ]
    return pa.array(found, pa.string())


HEX = np.frombuffer(bytes(range(256)).hex().encode(), np.uint8).reshape(256, 2)


def _hex(data: Array, column: LogColumn, starts: Array, lengths: Array, valid: Array) -> pa.Array:
    raw = gather(data, starts, lengths, valid)
    doubled = HEX[np.frombuffer(raw.buffers()[2], np.uint8)].reshape(-1)
    offsets = np.frombuffer(raw.buffers()[1], np.int32) * 2
    found = pa.StringArray.from_buffers(len(raw), pa.py_buffer(offsets), pa.py_buffer(doubled), raw.buffers()[0])
    if column.type == kinds.STRING:  # the log leaves out the zeros at the end of a binary(n)
        found = pc.ascii_rpad(found, column.size * 2, "0")
    return pc.binary_join_element_wise(pa.scalar("\\x"), found, "")


def _whole(data: Array, at: Array, column: LogColumn) -> pa.Array:
    size = kinds.INTEGERS[column.type]
    value = little(data, at, size)
    if column.unsigned:
        return pa.array(value.view(np.uint64)).cast(pa.string())
    shift = 64 - 8 * size
    return pa.array(value << shift >> shift).cast(pa.string())


def _bits(data: Array, at: Array, column: LogColumn) -> pa.Array:
    return pa.array(big(data, at, column.width).view(np.uint64)).cast(pa.string())


def _floating(data: Array, at: Array, column: LogColumn) -> pa.Array:
    raw = data.take(at[:, None] + np.arange(column.width), mode="clip")
    return pa.array(raw.view("<f4" if column.type == kinds.FLOAT else "<f8").reshape(-1)).cast(pa.string())


def _year(data: Array, at: Array, _: LogColumn) -> pa.Array:
    year = little(data, at, 1)
    return _text(_digits(np.where(year == 0, 0, year + 1900), 4))


def _enum(data: Array, at: Array, column: LogColumn) -> pa.Array:
    return pa.array(["", *column.labels], pa.string()).take(pa.array(little(data, at, column.width)))


def _set(data: Array, at: Array, column: LogColumn) -> pa.Array:
    masks, places = np.unique(little(data, at, column.width).view(np.uint64), return_inverse=True)
    named = [",".join(label for bit, label in enumerate(column.labels) if mask >> bit & 1) for mask in masks.tolist()]
    return pa.array(named, pa.string()).take(pa.array(places))


def _decimal(data: Array, at: Array, column: LogColumn) -> pa.Array:
    """Decimals hold groups of nine digits in four bytes each; those of negative ones are inverted."""
    whole, scale = column.size - column.scale, column.scale
    raw = data.take(at[:, None] + np.arange(column.width), mode="clip")
    negative = raw[:, 0] < ASCII
    raw[:, 0] ^= 0x80
    raw[negative] ^= 0xFF
    groups = [whole % 9, *[9] * (whole // 9)], [*[9] * (scale // 9), scale % 9]
    flat, place, rows = raw.reshape(-1), 0, np.arange(len(at)) * column.width
    parts: list[list[Array]] = [[], []]
    for side, sizes in zip(parts, groups, strict=True):
        for size in filter(None, sizes):
            width = kinds.DIGITS_BYTES[size]
            side.append(_digits(big(flat, rows + place, width), size))
            place += width
    blank = _digits(np.zeros(len(at), np.int64), 1)
    chars = np.hstack([blank, *(parts[0] or [blank])])
    zeros = np.minimum((chars[:, 1:] == ZERO).cumprod(axis=1).sum(axis=1), chars.shape[1] - 2)
    if scale:
        chars = np.hstack([chars, np.full((len(at), 1), ord("."), np.uint8), *parts[1]])
    return _signed(chars, zeros, negative)


def _one_decimal(value: bytes, digits: int, scale: int) -> str:
    column = kinds.LogColumn("", kinds.DECIMAL, digits, scale)
    return str(_decimal(np.frombuffer(value, np.uint8), np.zeros(1, np.int64), column)[0].as_py())


def _date(data: Array, at: Array, _: LogColumn) -> pa.Array:
    value = little(data, at, 3)
    return _text(_joined("-", _digits(value >> 9, 4), _digits(value >> 5 & 15, 2), _digits(value & 31, 2)))


def _clock(value: Array) -> Array:
    """Return the hours, minutes and seconds of packed times."""
    return _joined(":", _digits(value >> 12 & 31, 2), _digits(value >> 6 & 63, 2), _digits(value & 63, 2))


def _fraction(data: Array, at: Array, scale: int) -> list[Array]:
    """Return what follows the seconds: pairs of digits, of which an odd last one is not shown."""
    if not scale:
        return []
    size = (scale + 1) // 2
    shown = _digits(big(data, at, size), 2 * size)[:, :scale]
    return [np.full((len(at), 1), ord("."), np.uint8), shown]


def _datetime(data: Array, at: Array, column: LogColumn) -> pa.Array:
    value = big(data, at, 5) - 0x80_0000_0000
    months = value >> 22
    day = _joined("-", _digits(months // 13, 4), _digits(months % 13, 2), _digits(value >> 17 & 31, 2))
    return _text(np.hstack([_joined(" ", day, _clock(value)), *_fraction(data, at + 5, column.scale)]))


def _timestamp(data: Array, at: Array, column: LogColumn) -> pa.Array:
    seconds = big(data, at, 4)
    days = (seconds // 86400).astype("datetime64[D]")
    months = days.astype("datetime64[M]")
    day = _joined(
        "-",
        _digits(days.astype("datetime64[Y]").astype(np.int64) + 1970, 4),
        _digits(months.astype(np.int64) % 12 + 1, 2),
        _digits((days - months).astype(np.int64) + 1, 2),
    )
    clock = _joined(":", _digits(seconds // 3600 % 24, 2), _digits(seconds // 60 % 60, 2), _digits(seconds % 60, 2))
    fraction = _fraction(data, at + 4, column.scale)
    zone = np.tile(np.frombuffer(b"+00", np.uint8), (len(at), 1))
    chars = np.hstack([_joined(" ", day, clock), *fraction, zone])
    never = (seconds == 0) & (np.hstack([_digits(seconds, 1), *fraction[1:]]) == ZERO).all(axis=1)
    chars[never, :10] = np.frombuffer(b"0000-00-00", np.uint8)
    width = chars.shape[1]
    return _pieces(chars, np.zeros(len(at), np.int64), np.where(never, width - 3, width))


def _time(data: Array, at: Array, column: LogColumn) -> pa.Array:
    size = (column.scale + 1) // 2
    value = big(data, at, 3 + size) - (0x800000 << 8 * size)
    negative, value = value < 0, np.abs(value)
    packed = value >> 8 * size
    hours = packed >> 12 & 0x3FF
    chars = [
        _digits(np.zeros(len(at), np.int64), 1),
        _joined(":", _digits(hours, 3), _digits(packed >> 6 & 63, 2), _digits(packed & 63, 2)),
    ]
    if size:
        shown = _digits(value & ((1 << 8 * size) - 1), 2 * size)[:, : column.scale]
        chars += [np.full((len(at), 1), ord("."), np.uint8), shown]
    return _signed(np.hstack(chars), (hours < 100).astype(np.int64), negative)  # noqa: PLR2004


READ: Mapping[int, Callable[[Array, Array, LogColumn], pa.Array]] = {
    **dict.fromkeys(kinds.INTEGERS, _whole),
    **dict.fromkeys((kinds.FLOAT, kinds.DOUBLE), _floating),
    **dict.fromkeys((kinds.DATE, kinds.NEWDATE), _date),
    kinds.BIT: _bits,
    kinds.YEAR: _year,
    kinds.ENUM: _enum,
    kinds.SET: _set,
    kinds.DECIMAL: _decimal,
    kinds.DATETIME: _datetime,
    kinds.TIMESTAMP: _timestamp,
    kinds.TIME: _time,
}


# -- text out of columns of characters -----------------------------------------------------------------------


def _digits(values: Array, width: int) -> Array:
    """Return the last digits of numbers as characters: an array of rows x width."""
    chars = np.empty((len(values), width), np.uint8)
    for place in reversed(range(width)):
        values, digit = np.divmod(values, 10)
        chars[:, place] = digit + ZERO
    return chars


def _joined(mark: str, *parts: Array) -> Array:
    """Return columns of characters with a mark between."""
    between = np.full((len(parts[0]), 1), ord(mark), np.uint8)
    return np.hstack([parts[0], *(column for part in parts[1:] for column in (between, part))])


def _text(chars: Array) -> pa.Array:
    """Return rows of characters as texts."""
    count, width = chars.shape
    return _pieces(chars, np.zeros(count, np.int64), np.full(count, width))


def _signed(chars: Array, skipped: Array, negative: Array) -> pa.Array:
    """Return rows of characters without some of the first ones; before them is room for a sign."""
    rows = np.flatnonzero(negative)
    chars[rows, skipped[rows]] = MINUS
    first = skipped + 1 - negative
    return _pieces(chars, first, chars.shape[1] - first)


def _pieces(chars: Array, first: Array, lengths: Array) -> pa.Array:
    """Return from each row of characters so many, from a place on."""
    flat = np.ascontiguousarray(chars).reshape(-1)
    return gather(flat, np.arange(len(chars)) * chars.shape[1] + first, lengths, np.ones(len(chars), bool))
