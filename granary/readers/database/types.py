"""What a column of a database can be as Arrow: by the type that the database declares, and by the contract."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.load.types import fit

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.types import TypeEngine

INSTANT = pa.timestamp("us", tz="UTC")
WALL = pa.timestamp("us")
WIDEST = 38
"""Digits of Arrow's 128-bit decimal, and of the widest decimal that a raw table gets."""
UNBOUNDED = pa.decimal128(WIDEST, 9)
"""What is proposed for a decimal without declared digits: 29 before the point, 9 behind it."""


@dataclass(frozen=True)
class Declared:
    """What a database says of a column.

    `type` is the Arrow type to put into a contract. `loose` means that values of several types may hide behind the
    declaration (MySQL's tinyint(1), Oracle's NUMBER, anything in SQLite), so a contract decides. `carrier` holds each
    value without loss where no contract names the column.
    """

    type: pa.DataType
    loose: bool = False
    carrier: pa.DataType | None = None


@dataclass(frozen=True)
class SourceColumn:
    """A column as a database describes it: its name, what it is, the declared type's text, and if null is let in."""

    name: str
    declared: Declared
    text: str
    nullable: bool
    comment: str | None = None


def delivered(declared: Declared, contract: pa.DataType | None) -> pa.DataType:
    """Return the type in which a column is handed over.

    It is the contract's wherever each value fits that by declaration, or where only the contract knows. Otherwise it
    is the declared one, so that the load seam sees that the source has changed a type.
    """
    if contract is None:
        return declared.carrier or declared.type
    if declared.loose or fit(declared.type, contract) == "fits":
        return contract
    return declared.type


def decimal(precision: int | None, scale: int | None) -> Declared:
    """Return what a decimal of so many digits is; one that no 128 bits hold is carried as text."""
    if precision is None:
        return Declared(UNBOUNDED, loose=True, carrier=pa.string())
    places = scale or 0
    if precision > WIDEST or not 0 <= places <= precision:
        return Declared(pa.string(), loose=True)
    return Declared(pa.decimal128(precision, places))


POSTGRES: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "oid": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "text": pa.string(),
    "character varying": pa.string(),
    "character": pa.string(),
    "bytea": pa.binary(),
    "date": pa.date32(),
    "timestamp without time zone": WALL,
    "timestamp with time zone": INSTANT,
}
"""Types that arrive as Arrow columns by binary COPY; all others are read as text."""


def base(name: str) -> str:
    """Return a Postgres type's name without its digits: timestamp(3) with time zone, character varying(9)."""
    return re.sub(r"\(\d+(,-?\d+)?\)", "", name)


def of_postgres(name: str) -> Declared:
    """Return what a Postgres type is, by the name that `format_type` gives it; what is not listed becomes text."""
    if base(name) == "numeric":
        digits = re.fullmatch(r"numeric\((\d+),(-?\d+)\)", name)
        return decimal(int(digits[1]), int(digits[2])) if digits else decimal(None, None)
    return Declared(POSTGRES.get(base(name), pa.string()))


def of_sqlalchemy(kind: TypeEngine[Any], dialect: str) -> Declared:
    """Return what a reflected type is; types without a plain counterpart (JSON, UUID, ENUM, TIME …) become text."""
    found = _of_sqlalchemy(kind, "mysql" if dialect == "mariadb" else dialect)
    return Declared(found.type, loose=True, carrier=found.carrier) if dialect == "sqlite" else found


def _of_sqlalchemy(kind: Any, dialect: str) -> Declared:
    from sqlalchemy import types  # noqa: PLC0415 - half a second, for databases only

    name = type(kind).__name__.upper()
    plain: list[tuple[type, Callable[[], Declared]]] = [
        (types.Boolean, lambda: Declared(pa.bool_())),
        (types.Integer, lambda: _integer(kind, name, dialect)),
        (types.Float, lambda: Declared(pa.float64())),
        (types.Numeric, lambda: decimal(kind.precision, kind.scale)),
        (types.DateTime, lambda: Declared(INSTANT if getattr(kind, "timezone", False) else WALL)),
        (types.Date, lambda: Declared(pa.date32())),
    ]
    if special := SPECIAL.get(f"{dialect}.{name}"):
        return special(kind)
    other = Declared(pa.binary() if _holds_bytes(kind) else pa.string())
    return next((made() for classes, made in plain if isinstance(kind, classes)), other)


def _holds_bytes(kind: Any) -> bool:
    try:
        return bool(kind.python_type is bytes)
    except NotImplementedError:
        return False


WIDTHS = {"TINYINT": pa.int16(), "SMALLINT": pa.int16(), "BIGINT": pa.int64(), "BIG_INTEGER": pa.int64()}
UNSIGNED = {"SMALLINT": pa.int32(), "INTEGER": pa.int64(), "MEDIUMINT": pa.int32(), "TINYINT": pa.int16()}


def _integer(kind: Any, name: str, dialect: str) -> Declared:
    if dialect in ("sqlite", "oracle"):
        return Declared(pa.int64(), loose=True, carrier=None if dialect == "sqlite" else pa.string())
    if name == "TINYINT" and getattr(kind, "display_width", None) == 1:
        return Declared(pa.bool_(), loose=True, carrier=pa.int16())  # MySQL's BOOLEAN, which may hold a 2
    if getattr(kind, "unsigned", False):
        if name == "BIGINT":
            return Declared(pa.decimal128(20, 0), loose=True)
        return Declared(UNSIGNED.get(name, pa.int64()))
    return Declared(WIDTHS.get(name, pa.int32()))


def _bits(kind: Any) -> Declared:
    widest = pa.decimal128(20, 0)
    bits = kind.length or 1
    found = pa.bool_() if bits == 1 else pa.int64() if bits < 64 else widest  # noqa: PLR2004 - int64 has a sign
    return Declared(found, loose=True, carrier=widest)


def _number(kind: Any) -> Declared:
    """Oracle's NUMBER: whole if its scale is 0, of any kind if nothing is declared (driver: int or Decimal)."""
    if kind.precision is None or kind.scale is None:
        return decimal(None, None)
    found = decimal(kind.precision, kind.scale)
    if kind.scale == 0 and kind.precision <= 18:  # noqa: PLR2004 - what every int64 holds
        return Declared(pa.int64())
    return found


SPECIAL: dict[str, Callable[[Any], Declared]] = {
    "mysql.TIMESTAMP": lambda _: Declared(INSTANT),  # the session's zone is set to UTC
    "mysql.BIT": _bits,
    "mysql.YEAR": lambda _: Declared(pa.int16()),
    "oracle.NUMBER": _number,
    "oracle.DATE": lambda _: Declared(WALL, loose=True),  # it has a time of day; a contract may say that it is midnight
    "oracle.TIMESTAMP": lambda kind: Declared(INSTANT if kind.timezone or kind.local_timezone else WALL),
    "mssql.DATETIMEOFFSET": lambda _: Declared(INSTANT),
    "mssql.MONEY": lambda _: Declared(pa.decimal128(19, 4)),
    "mssql.SMALLMONEY": lambda _: Declared(pa.decimal128(10, 4)),
    "mssql.TIMESTAMP": lambda _: Declared(pa.binary()),
    "mssql.ROWVERSION": lambda _: Declared(pa.binary()),
}
