"""Tables as the log announces them before their rows: names, types, character sets, and labels of enumerations.

All of it is in the event where the source has `binlog_row_metadata = FULL`, so that rows are read by what their table
was when they were written, however it has been altered since. The layout is that of Table_map_event in MySQL's
libs/mysql/binlog/event/rows_event.h.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from granary.cdc.mysql.events import HEADER
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Mapping

TINY, SHORT, LONG, FLOAT, DOUBLE, LONGLONG, INT24, DATE, YEAR, NEWDATE = 1, 2, 3, 4, 5, 8, 9, 10, 13, 14
VARCHAR, BIT, TIMESTAMP, DATETIME, TIME, JSON, DECIMAL, ENUM, SET = 15, 16, 17, 18, 19, 245, 246, 247, 248
BLOB, VAR_STRING, STRING, GEOMETRY = 252, 253, 254, 255

INTEGERS = {TINY: 1, SHORT: 2, INT24: 3, LONG: 4, LONGLONG: 8}
"""Whole numbers, and the bytes of each."""
FIXED = {**INTEGERS, FLOAT: 4, DOUBLE: 8, DATE: 3, NEWDATE: 3, YEAR: 1, TIMESTAMP: 4, DATETIME: 5, TIME: 3}
"""Bytes of a value, for times without a fraction."""
NUMERIC = frozenset((*INTEGERS, FLOAT, DOUBLE, DECIMAL, YEAR))
"""Types of which the log says whether they are unsigned."""
TIMES = frozenset((TIMESTAMP, DATETIME, TIME))
TEXTS = frozenset((VARCHAR, VAR_STRING, STRING, BLOB))
BLOBS = frozenset((BLOB, GEOMETRY, JSON))
BINARY = 63
"""The collation of what is no text."""
DIGITS_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
"""Bytes for so many digits of a decimal."""

SIGNEDNESS, DEFAULT_CHARSET, COLUMN_CHARSET, COLUMN_NAME, SET_LABELS, ENUM_LABELS = 1, 2, 3, 4, 5, 6
LABELS_DEFAULT_CHARSET, LABELS_COLUMN_CHARSET = 10, 11
"""What the log says beside names and types."""

NAMES = {
    TINY: "tinyint", SHORT: "smallint", INT24: "mediumint", LONG: "int", LONGLONG: "bigint", FLOAT: "float",
    DOUBLE: "double", DATE: "date", NEWDATE: "date", YEAR: "year", BIT: "bit", TIMESTAMP: "timestamp",
    DATETIME: "datetime", TIME: "time", JSON: "json", DECIMAL: "decimal", ENUM: "enum", SET: "set",
    GEOMETRY: "geometry",
}  # fmt: skip
BLOB_SIZES = {1: "tiny", 2: "", 3: "medium", 4: "long"}


@dataclass(frozen=True)
class LogColumn:
    """One column of a table in the log.

    `size` is what its type says of it: bytes of text or of a length, bits, digits of a decimal, labels' bytes; `scale`
    its digits after the point, also of seconds. `collation` is that of text, `labels` those of an enum or a set.
    """

    name: str
    type: int
    size: int = 0
    scale: int = 0
    unsigned: bool = False
    collation: int = BINARY
    labels: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The type in the source's words, without the lengths of texts."""
        binary = self.collation == BINARY
        if self.type == BLOB:
            return BLOB_SIZES.get(self.size, "") + ("blob" if binary else "text")
        if self.type in (VARCHAR, VAR_STRING):
            return "varbinary" if binary else "varchar"
        if self.type == STRING:
            return "binary" if binary else "char"
        name = NAMES[self.type]
        if self.type == DECIMAL:
            name += f"({self.size},{self.scale})"
        elif self.type in TIMES and self.scale:
            name += f"({self.scale})"
        elif self.type == BIT:
            name += f"({self.size})"
        elif self.labels:
            name += "(" + ",".join(self.labels) + ")"
        return name + (" unsigned" if self.unsigned and self.type != YEAR else "")

    @property
    def width(self) -> int:
        """The bytes of a value, 0 if it says so itself."""
        if self.type == DECIMAL:
            whole = self.size - self.scale
            return whole // 9 * 4 + DIGITS_BYTES[whole % 9] + self.scale // 9 * 4 + DIGITS_BYTES[self.scale % 9]
        if self.type in (ENUM, SET):
            return self.size
        if self.type == BIT:
            return (self.size + 7) // 8
        return FIXED.get(self.type, 0) + ((self.scale + 1) // 2 if self.type in TIMES else 0)

    @property
    def prefix(self) -> int:
        """The bytes before a value that say how many it has."""
        if self.type in BLOBS:
            return self.size
        return 1 if self.size < 256 else 2  # noqa: PLR2004


@dataclass(frozen=True)
class LogTable:
    """A table as it was when rows of it were written."""

    schema: str
    name: str
    columns: tuple[LogColumn, ...]


def names(event: bytes) -> tuple[str, str]:
    """Return the schema and the name of the table that is announced."""
    at = HEADER + 8
    schema = event[at + 1 : at + 1 + event[at]]
    at += 2 + event[at]
    return schema.decode(), event[at + 1 : at + 1 + event[at]].decode()


def parse(event: bytes, codecs: Mapping[int, str], *, is_mariadb: bool) -> LogTable:
    """Return the table that an event announces.

    Args:
        event: the event.
        codecs: Python's codec for the text of each collation.
        is_mariadb: whether the source is MariaDB, which counts a geometry among the texts; MySQL does not.

    Raises:
        GranaryError: it has a column of a type that is not known, or does not say what its columns are called.
    """
    schema, name = names(event)
    at = HEADER + 8 + 2 + event[HEADER + 8]
    at += 2 + event[at]
    count, at = _packed(event, at)
    types = event[at : at + count]
    length, at = _packed(event, at + count)
    columns, used = [], at
    for number, kind in enumerate(types):
        column, used = _column(f"column {number + 1}", kind, event, used, f"{schema}.{name}")
        columns.append(column)
    at += length + (count + 7) // 8
    told: dict[int, bytes] = {}
    while at < len(event):
        field = event[at]
        length, at = _packed(event, at + 1)
        told[field] = event[at : at + length]
        at += length
    if COLUMN_NAME not in told:
        raise GranaryError(
            "the log does not say what the columns are called",
            f"{schema}.{name}",
            "run `set global binlog_row_metadata = 'FULL'` at the source, then `granary capture SOURCE --snapshot`",
        )
    return LogTable(schema, name, tuple(_named(columns, told, codecs, is_mariadb)))


def _column(  # noqa: PLR0911 - one type, one line
    name: str, kind: int, event: bytes, at: int, where: str
) -> tuple[LogColumn, int]:
    """Return a column by what stands of it at a place, and the place after that."""
    if kind == STRING:
        first, second = event[at], event[at + 1]
        if first & 0x30 != 0x30:  # noqa: PLR2004 - two bits of a length over 255 are hidden in the type
            return LogColumn(name, first | 0x30, second | ((first & 0x30) ^ 0x30) << 4), at + 2
        return LogColumn(name, first, second), at + 2
    if kind in (VARCHAR, VAR_STRING):
        return LogColumn(name, kind, int.from_bytes(event[at : at + 2], "little")), at + 2
    if kind == BIT:
        return LogColumn(name, kind, event[at] + 8 * event[at + 1]), at + 2
    if kind == DECIMAL:
        return LogColumn(name, kind, event[at], event[at + 1]), at + 2
    if kind in TIMES:
        return LogColumn(name, kind, scale=event[at]), at + 1
    if kind in BLOBS or kind in (FLOAT, DOUBLE):
        return LogColumn(name, kind, event[at]), at + 1
    if kind not in FIXED:
        raise GranaryError(
            f"{name} has a type that is not captured ({kind})", where, "take the table out of the source"
        )
    return LogColumn(name, kind), at


def _named(
    columns: list[LogColumn], told: Mapping[int, bytes], codecs: Mapping[int, str], is_mariadb: bool
) -> list[LogColumn]:
    """Return the columns with what is told of them."""
    called = _texts(told[COLUMN_NAME], "utf-8")
    found = [replace(column, name=name) for column, name in zip(columns, called, strict=True)]
    unsigned = told.get(SIGNEDNESS, b"")
    for bit, place in enumerate(i for i, column in enumerate(found) if column.type in NUMERIC):
        found[place] = replace(found[place], unsigned=bool(unsigned[bit // 8] & 0x80 >> bit % 8))
    for kinds, default, each in (
        (TEXTS | {GEOMETRY} if is_mariadb else TEXTS, DEFAULT_CHARSET, COLUMN_CHARSET),
        ((ENUM, SET), LABELS_DEFAULT_CHARSET, LABELS_COLUMN_CHARSET),
    ):
        places = [place for place, column in enumerate(found) if column.type in kinds]
        collations = [BINARY] * len(places)
        if each in told:
            collations = _numbers(told[each])
        elif default in told:
            first, *others = _numbers(told[default])
            differing = dict(zip(others[::2], others[1::2], strict=True))
            collations = [differing.get(number, first) for number in range(len(places))]
        for place, collation in zip(places, collations, strict=True):
            found[place] = replace(found[place], collation=collation)
    for kind, field in ((ENUM, ENUM_LABELS), (SET, SET_LABELS)):
        lists = _lists(told.get(field, b""))
        for place, labels in zip((i for i, column in enumerate(found) if column.type == kind), lists, strict=True):
            codec = codecs.get(found[place].collation, "utf-8")
            found[place] = replace(found[place], labels=tuple(label.decode(codec) for label in labels))
    return found


def _packed(data: bytes, at: int) -> tuple[int, int]:
    """Return a length-encoded number, and the place after it."""
    first = data[at]
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first, 0)
    return (int.from_bytes(data[at + 1 : at + 1 + size], "little") if size else first), at + 1 + size


def _numbers(data: bytes) -> list[int]:
    found, at = [], 0
    while at < len(data):
        number, at = _packed(data, at)
        found.append(number)
    return found


def _texts(data: bytes, codec: str) -> list[str]:
    found, at = [], 0
    while at < len(data):
        length, at = _packed(data, at)
        found.append(data[at : at + length].decode(codec))
        at += length
    return found


def _lists(data: bytes) -> list[list[bytes]]:
    found, at = [], 0
    while at < len(data):
        count, at = _packed(data, at)
        labels = []
        for _ in range(count):
            length, at = _packed(data, at)
            labels.append(data[at : at + length])
            at += length
        found.append(labels)
    return found
