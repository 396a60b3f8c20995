"""BATCH messages: files that a tap has written with many records, as JSON Lines or Parquet."""

from __future__ import annotations

import gzip
from contextlib import ExitStack
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
                with ExitStack() as stack:
                    handle = stack.enter_context(path.open("rb"))
                    data = stack.enter_context(gzip.open(handle)) if packed == "gzip" else handle
                    yield from read_lines(cast("IO[bytes]", data), table, Limits(), where)
            else:
                raise UnreachableError(f"a BATCH is {kind}, {packed}", where, ADVICE)
        except (OSError, EOFError, pa.ArrowInvalid) as error:
            words = error.strerror if isinstance(error, OSError) and error.strerror else "it is damaged"
            raise UnreachableError(f"a file of a BATCH cannot be read: {words}", where, "load again") from None
        if folder in path.resolve().parents:
            path.unlink(missing_ok=True)


def _parquet(path: Path) -> Iterator[SourceBatch]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS):
            yield SourceBatch(batch)
