"""Avro object container files, read block by block.

The container is read here and only its records by fastavro: so a block is unpacked within limits, and the codecs
snappy and zstandard need no further packages (Arrow has them). Format: Apache Avro 1.12, "Object Container Files".
"""

from __future__ import annotations

import bz2
import io
import lzma
import struct
import zlib
from datetime import date, datetime
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any
from uuid import UUID

import pyarrow as pa

from granary.load.types import decimal
from granary.load.values import INT_BITS, as_text
from granary.readers.files.columnar import NO_JSON, to_json
from granary.readers.files.unpack import damaged
from granary.sources.units import Rejected, SourceBatch, UnreadableError
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.readers.files.limits import Limits

BATCH_ROWS = 16_384
SYNC_BYTES = 16
PRIMITIVES = {
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "fixed": pa.binary(),
    "string": pa.string(),
    "enum": pa.string(),
    "null": pa.null(),
}
INSTANT, WALL = {"tz": "UTC"}, {"tz": None}
LOGICAL = {
    ("int", "date"): pa.date32(),
    ("int", "time-millis"): pa.time32("ms"),
    ("long", "time-micros"): pa.time64("us"),
    **{
        ("long", f"{kind}timestamp-{unit}"): pa.timestamp(short, **zone)
        for kind, zone in (("", INSTANT), ("local-", WALL))
        for unit, short in (("millis", "ms"), ("micros", "us"), ("nanos", "ns"))
    },
}
"""Types that are kept as numbers, and read as such: Python has no date for some of them."""

TEXT = {("string", "uuid"), ("fixed", "uuid"), ("fixed", "duration")}
"""Types that land as text."""


def read(stream: IO[bytes], limits: Limits, where: str) -> Iterator[SourceBatch]:
    """Yield a container's records; unions of several types and nested values are JSON text.

    Raises:
        UnreadableError: the container is damaged, its codec is unknown, or a block unpacks to too much.
        GranaryError: the package that reads records is missing.
    """
    try:
        from fastavro import reader, schemaless_reader  # noqa: PLC0415 - an extra that only Avro needs
        from fastavro.schema import parse_schema  # noqa: PLC0415
    except ImportError:
        raise GranaryError("reading Avro needs a package", where, "pip install 'granary-elt[files]'") from None
    try:
        header = reader(stream)
        schema = parse_schema(header.writer_schema)
        if not isinstance(schema, dict) or schema.get("type") != "record":
            raise UnreadableError("the file's schema is not a record", where, "ask the source for records")
        codec = str(header.metadata.get("avro.codec", "null"))
        named: dict[str, Any] = {}
        columns = [_Column(field["name"], field["type"], named) for field in schema["fields"]]
        kept = [field | {"type": column.kept} for field, column in zip(schema["fields"], columns, strict=True)]
        schema = parse_schema({k: v for k, v in schema.items() if not k.startswith("__")} | {"fields": kept})
        stream.seek(-SYNC_BYTES, io.SEEK_CUR)  # the header ends with the marker that follows each block
        sync = stream.read(SYNC_BYTES)
        rows: list[dict[str, Any]] = []
        empty = True
        for count, data in _blocks(stream, sync, codec, limits, where):
            block = io.BytesIO(data)
            for _ in range(count):
                rows.append(schemaless_reader(block, schema, None))  # type: ignore[arg-type]
                if len(rows) == BATCH_ROWS:
                    empty = False
                    yield _source_batch(rows, columns)
                    rows = []
            if block.tell() < len(data):
                raise ValueError("a block has more bytes than its records")
        if rows or empty:
            yield _source_batch(rows, columns)
    except GranaryError:
        raise
    except Exception as error:  # fastavro raises whatever a damaged byte leads to
        raise damaged(error, where, "avro") from None


def _blocks(stream: IO[bytes], sync: bytes, codec: str, limits: Limits, where: str) -> Iterator[tuple[int, bytes]]:
    """Yield each block: how many records it has, and its unpacked bytes."""
    if codec not in UNPACK:
        raise UnreadableError(f"the codec {codec[:40]!r} is unknown", where, f"use one of {', '.join(UNPACK)}")
    while (count := _long(stream)) is not None:
        size = _long(stream)
        if size is None or size < 0 or not 0 <= count <= limits.unpacked:
            raise ValueError("a block's head is damaged")
        packed = stream.read(size)
        if len(packed) < size or stream.read(SYNC_BYTES) != sync:
            raise ValueError("a block is cut off")
        most = max(limits.ratio_from, min(limits.ratio * size, limits.unpacked))
        data = UNPACK[codec](packed, most)
        if len(data) > most:
            raise UnreadableError(f"a block unpacks to over {most:,} bytes, as a bomb does", where, "raise the limits")
        if count > len(data) + 1:
            raise ValueError("a block has more records than bytes")
        yield count, data


def _long(stream: IO[bytes]) -> int | None:
    """Read a zigzag-coded integer; None at the end of the file."""
    value, shift = 0, 0
    while byte := stream.read(1):
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:  # noqa: PLR2004 - the top bit says that more follows
            return (value >> 1) ^ -(value & 1)
        shift += 7
        if shift > 63:  # noqa: PLR2004 - a long has 64 bits
            raise ValueError("a number is too long")
    return None


def _snappy(packed: bytes, most: int) -> bytes:
    """Unpack a snappy block: it tells its size first, and ends with a CRC of four bytes."""
    size = shift = 0
    for byte in packed[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004 - the top bit says that more follows
            break
    if size > most:
        return bytes(most + 1)
    data = pa.decompress(packed[:-4], size, "snappy", asbytes=True)
    if zlib.crc32(data) != int.from_bytes(packed[-4:], "big"):
        raise ValueError("a block's checksum is wrong")
    return bytes(data)


def _zstandard(packed: bytes, most: int) -> bytes:
    with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
        return bytes(stream.read(most + 1))


def _whole(unpacker: Any, packed: bytes, most: int) -> bytes:
    """Unpack a block whose end, and with it its checksum if the codec has one, must have come."""
    data = bytes(unpacker.decompress(packed, most + 1))
    if len(data) <= most and not unpacker.eof:
        raise ValueError("a block's packed bytes are cut off")
    return data


UNPACK: dict[str, Callable[[bytes, int], bytes]] = {
    "null": lambda packed, _: packed,
    "deflate": lambda packed, most: _whole(zlib.decompressobj(-15), packed, most),
    "bzip2": lambda packed, most: _whole(bz2.BZ2Decompressor(), packed, most),
    "xz": lambda packed, most: _whole(lzma.LZMADecompressor(), packed, most),
    "snappy": _snappy,
    "zstandard": _zstandard,
}


class _Column:
    """A field of the records: its name, the schema by which its values are read, and what is made of them."""

    def __init__(self, name: str, schema: Any, named: dict[str, Any]) -> None:
        """Find out what a field is; `named` remembers the types that fields before it have defined."""
        branches = [each for each in schema if each != "null"] if isinstance(schema, list) else [schema]
        only = named.get(str(branches[0]), branches[0]) if len(branches) == 1 else None
        found: dict[str, Any] = only if isinstance(only, dict) else {"type": only}
        base, logical = str(found["type"]), str(found.get("logicalType"))
        named |= {found["name"]: found} if "name" in found else {}
        self.name, self.kept, self.logical, self.scale = name, schema, "", int(found.get("scale", 0))
        self.type = PRIMITIVES.get(base, pa.string())
        if logical == "decimal" and base in ("bytes", "fixed"):
            self.type, self.logical = decimal(found.get("precision", 1), self.scale), logical
        elif (base, logical) in LOGICAL or (base, logical) in TEXT:
            self.type, self.logical = LOGICAL.get((base, logical), pa.string()), logical
        self.nested = pa.types.is_string(self.type) and not self.logical and base not in ("string", "enum")
        if self.logical and only is branches[0]:
            bare = {key: value for key, value in found.items() if key != "logicalType"}
            self.kept = [bare if each is only else each for each in schema] if isinstance(schema, list) else bare

    def array(self, values: list[Any]) -> pa.Array:
        """Return values as they are kept as a column."""
        if self.logical == "decimal":
            numbers = [None if value is None else int.from_bytes(value, "big", signed=True) for value in values]
            digits = max((len(str(abs(number))) for number in numbers if number is not None), default=0)
            texts = [None if number is None else f"{number}e-{self.scale}" for number in numbers]
            if digits > self.type.precision:  # more than the schema says: the contract decides
                return pa.array(texts, pa.string()).cast(decimal(digits, self.scale))
            return pa.array(texts, pa.string()).cast(self.type)
        if self.logical == "uuid":
            return pa.array([str(UUID(bytes=v)) if isinstance(v, bytes) else v for v in values], pa.string())
        if self.logical == "duration":
            parts = [None if value is None else struct.unpack("<3I", value) for value in values]
            return as_text(pa.array([p and (p[0], p[1], p[2] * 10**6) for p in parts], pa.month_day_nano_interval()))
        if self.logical:
            return pa.array(values, pa.int32() if self.type.bit_width == INT_BITS else pa.int64()).view(self.type)
        return pa.array(values, self.type)


def _source_batch(rows: list[dict[str, Any]], columns: list[_Column]) -> SourceBatch:
    bad: dict[int, Rejected] = {}
    for column in columns:
        if not column.nested:
            continue
        for index, row in enumerate(rows):
            try:
                row[column.name] = _text(row[column.name])
            except ValueError:
                bad.setdefault(index, Rejected(column.name, NO_JSON, row))
    if bad:
        rows = [row for index, row in enumerate(rows) if index not in bad]
    arrays = {column.name: column.array([row[column.name] for row in rows]) for column in columns}
    return SourceBatch(pa.RecordBatch.from_pydict(arrays), tuple(sorted(bad.items())))


def _text(value: Any) -> str | None:
    """Return what is nested, or of several types, as JSON text.

    Raises:
        ValueError: it holds what JSON cannot.
    """
    if value is None or isinstance(value, str):
        return value
    return str(value) if isinstance(value, (date, datetime, Decimal)) else to_json(value)
