"""One Parquet file: written with its SHA-256, and read back by it."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from granary.readers.files.destination import Destination

GROUP_ROWS = 250_000
CHUNK_BYTES = 256 << 20
"""What is in memory at a time of rows that become one file."""
PART_BYTES = 1 << 20
IN_MEMORY = 64 << 20
"""A file up to this size is read in memory, a larger one in a temporary file without a name."""


def chunks(batches: Iterable[pa.RecordBatch], rows: int, size: int) -> Iterator[pa.Table]:
    """Yield batches together, in tables of about so many rows or bytes, whichever is reached first."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        if batch.num_rows:
            held.append(batch)
        if sum(one.num_rows for one in held) >= rows or sum(one.nbytes for one in held) >= size:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)


class Hashed:
    """A binary file that is hashed as it is written."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        """Write into this file."""
        self._file, self._state, self.size = file, hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        """Write a buffer."""
        self._file.write(data)
        self._state.update(data)
        self.size += len(data)
        return len(data)

    def tell(self) -> int:
        """Return how much is written."""
        return self.size

    def flush(self) -> None:
        """Leave it to whoever opened the file."""

    def close(self) -> None:
        """Leave it to whoever opened the file."""

    def digest(self) -> str:
        """Return the SHA-256 of what was written."""
        return self._state.hexdigest()


def write_file(
    files: Destination, name: str, schema: pa.Schema, groups: Iterator[pa.Table], limit: int | None = None
) -> dict[str, Any]:
    """Write row groups into one file, until it has `limit` bytes; return its name, rows, bytes and SHA-256."""
    rows = 0
    with files.writing(name) as file:
        sink = Hashed(file)
        with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
            for group in groups:
                writer.write_table(group)
                rows += group.num_rows
                if limit is not None and sink.size >= limit:
                    break
    return {"path": name, "rows": rows, "bytes": sink.size, "sha256": sink.digest()}


def sha256_of(files: Destination, name: str) -> str:
    """Return the SHA-256 of a file of which nobody knows it."""
    digest = hashlib.sha256()
    with files.reading(name) as file:
        while part := file.read(PART_BYTES):
            digest.update(part)
    return digest.hexdigest()


@contextmanager
def opened(files: Destination, name: str, sha256: str) -> Iterator[pq.ParquetFile]:
    """Yield a file that was written, after all of it was read and found to be the same.

    Raises:
        GranaryError: it is not there, or is another one.
    """
    where = f"{files.place}/{name}"
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as copy:
        digest = hashlib.sha256()
        try:
            with files.reading(name) as file:
                while part := file.read(PART_BYTES):
                    digest.update(part)
                    copy.write(part)
        except FileNotFoundError:
            raise GranaryError("the file is not there", where, "bring it back from a copy of the place") from None
        if digest.hexdigest() != sha256:
            raise GranaryError("the file is another than was written", where, "bring it back from a copy of the place")
        copy.seek(0)
        yield pq.ParquetFile(copy)
