"""Avro object container files, read block by block.

The container is read here and only its records by fastavro: so a block is unpacked within limits, and the codecs
snappy and zstandard need no further packages (Arrow has them). Format: Apache Avro 1.12, "Object Container Files".
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from datetime import date, datetime
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from ingestion.readers.files.columnar import to_json
from ingestion.readers.files.unpack import damaged
from ingestion.spec import Chunk, UnreadableError
from warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ingestion.readers.files.limits import Limits

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
LOGICAL = {
    "date": pa.date32(),
    "timestamp-millis": pa.timestamp("us", tz="UTC"),
    "timestamp-micros": pa.timestamp("us", tz="UTC"),
    "local-timestamp-millis": pa.timestamp("us"),
    "local-timestamp-micros": pa.timestamp("us"),
}


def read(stream: IO[bytes], limits: Limits, where: str) -> Iterator[Chunk]:
    """Yield a container's records; unions of several types and nested values are JSON text.

    Raises:
        UnreadableError: the container is damaged, its codec is unknown, or a block unpacks to too much.
        GranaryError: the package that reads records is missing.
    """
    try:
        from fastavro import reader, schemaless_reader  # noqa: PLC0415 - an extra that only Avro needs
        from fastavro.schema import parse_schema  # noqa: PLC0415
    except ImportError:
        raise GranaryError("reading Avro needs a package", where, "pip install 'granary[files]'") from None
    try:
        header = reader(stream)
        schema = parse_schema(header.writer_schema)
        if not isinstance(schema, dict) or schema.get("type") != "record":
            raise UnreadableError("the file's schema is no record", where, "ask the source for records")
        codec = str(header.metadata.get("avro.codec", "null"))
        fields = {field["name"]: _arrow_type(field["type"]) for field in schema["fields"]}
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
                    yield _chunk(rows, fields)
                    rows = []
        if rows or empty:
            yield _chunk(rows, fields)
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


UNPACK: dict[str, Callable[[bytes, int], bytes]] = {
    "null": lambda packed, _: packed,
    "deflate": lambda packed, most: zlib.decompressobj(-15).decompress(packed, most + 1),
    "bzip2": lambda packed, most: bz2.BZ2Decompressor().decompress(packed, most + 1),
    "xz": lambda packed, most: lzma.LZMADecompressor().decompress(packed, most + 1),
    "snappy": _snappy,
    "zstandard": _zstandard,
}


def _arrow_type(schema: Any) -> pa.DataType:
    """Return the Arrow type of a field; text for what has no plain one, to be filled with JSON."""
    if isinstance(schema, list):
        kinds = [kind for kind in schema if kind != "null"]
        return _arrow_type(kinds[0]) if len(kinds) == 1 else pa.string()
    if isinstance(schema, dict):
        logical = schema.get("logicalType")
        if logical == "decimal" and schema.get("precision", 0) <= 38:  # noqa: PLR2004 - what Arrow's decimal holds
            return pa.decimal128(schema["precision"], schema.get("scale", 0))
        if logical in LOGICAL:
            return LOGICAL[logical]
        return pa.string() if logical else PRIMITIVES.get(schema["type"], pa.string())
    return PRIMITIVES.get(schema, pa.string())


def _chunk(rows: list[dict[str, Any]], fields: dict[str, pa.DataType]) -> Chunk:
    columns = {}
    for name, kind in fields.items():
        values = [row[name] for row in rows]
        if pa.types.is_string(kind):
            values = [value if value is None or isinstance(value, str) else _text(value) for value in values]
        columns[name] = pa.array(values, kind)
    return Chunk(pa.RecordBatch.from_pydict(columns))


def _text(value: Any) -> str:
    return str(value) if isinstance(value, (date, datetime, Decimal)) else to_json(value)
