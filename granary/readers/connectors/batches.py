"""BATCH messages: files that a tap has written with many records, as JSON Lines or Parquet."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from granary.readers.files.json_rows import read_lines
from granary.readers.files.limits import Limits
from granary.sources.units import SourceBatch, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from granary.sources.spec import Table

ROWS = 65_536
OF_DLT = "_dlt_"
"""How dlt's own columns begin: a row's is another one each time, and our load columns say the same."""
ADVICE = "have the tap write its batches to this machine, as jsonl or parquet"


def files(message: Mapping[str, Any], where: str) -> list[Path]:
    """Return the files that a message names.

    Raises:
        UnreachableError: it names none, or some that are elsewhere.
    """
    named = message.get("manifest")
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        raise UnreachableError("a BATCH names no files", where, ADVICE)
    parts = [urlsplit(one) for one in named]
    if any(part.scheme not in ("", "file") or part.netloc not in ("", "localhost") for part in parts):
        raise UnreachableError("a BATCH names files that are not on this machine", where, ADVICE)
    return [Path(unquote(part.path)) for part in parts]


def read(message: Mapping[str, Any], table: Table, folder: Path, where: str) -> Iterator[SourceBatch]:
    """Yield the rows of a batch, and remove those of its files that lie in the folder of the run.

    Raises:
        UnreachableError: a file is missing or damaged, or of another kind.
    """
    encoding = message.get("encoding") or {}
    kind, packed = encoding.get("format", "jsonl"), encoding.get("compression") or "none"
    for path in files(message, where):
        try:
            if kind == "parquet":
                yield from _parquet(path)
            elif kind == "jsonl" and packed in ("gzip", "none"):
                with opened(path, packed) as lines:
                    yield from read_lines(lines, table, Limits(), where)
            else:
                raise UnreachableError(f"a BATCH is {kind}, {packed}", where, ADVICE)
        except (OSError, EOFError, pa.ArrowInvalid) as error:
            words = error.strerror if isinstance(error, OSError) and error.strerror else "it is damaged"
            raise UnreachableError(f"a file of a BATCH cannot be read: {words}", where, "load again") from None
        if folder in path.resolve().parents:
            path.unlink(missing_ok=True)


def opened(path: Path, packed: str) -> IO[bytes]:
    """Open a file of a batch."""
    return cast("IO[bytes]", gzip.open(path)) if packed == "gzip" else path.open("rb")


def _parquet(path: Path) -> Iterator[SourceBatch]:
    with pq.ParquetFile(path) as file:
        names = [name for name in file.schema_arrow.names if not name.startswith(OF_DLT)]
        for batch in file.iter_batches(ROWS, columns=names):
            yield SourceBatch(batch)
