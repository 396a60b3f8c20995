"""Files in a landing zone: one file is one unit, known by its content."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq

from ingestion.checks import from_rows
from ingestion.spec import Chunk, Rejected, Unit
from warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestion.spec import Table

BATCH_ROWS = 131_072
DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
ADVICE = "ask the source to deliver it again; nothing of this load has landed"


class FileReader:
    """Reads a folder of Parquet or JSON Lines files; `Table.location` is a glob below the folder."""

    def __init__(self, folder: str) -> None:
        """Remember the landing zone's folder."""
        self.folder = Path(folder)

    def units(self, table: Table, watermark: str | None) -> list[Unit]:
        """Return the files in order of their names; hidden and temporary ones are still being written.

        Raises:
            GranaryError: the folder is missing, a file cannot be read, or a day's file is not named by its day.
        """
        del watermark
        if not self.folder.is_dir():
            raise GranaryError(f"the landing zone of {table.name} is missing", str(self.folder), "mount or create it")
        paths = [path for path in sorted(self.folder.glob(table.location)) if path.name[0] not in "._"]
        return [self._unit(table, path) for path in paths]

    def _unit(self, table: Table, path: Path) -> Unit:
        name = path.relative_to(self.folder).as_posix()
        try:
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise GranaryError("the file is a link that leaves the landing zone", str(path), "remove it")
            with path.open("rb") as handle:
                digest = (
                    hashlib.file_digest(handle, "sha256") if hasattr(hashlib, "file_digest") else _digest(handle.read())
                )
            size = path.stat().st_size
        except OSError as error:
            raise GranaryError(f"the file cannot be read: {error.strerror}", str(path), ADVICE) from None
        day = None
        if table.partition == "day":
            if not DAY.fullmatch(path.stem):
                raise GranaryError("the file is not named by its business date", str(path), "rename it YYYY-MM-DD")
            try:
                day = date.fromisoformat(path.stem)
            except ValueError:
                raise GranaryError("the file's name is no date", str(path), "rename it YYYY-MM-DD") from None
        return Unit(name, digest.hexdigest(), size, day)

    def read(self, table: Table, unit: Unit, watermark: str | None) -> Iterator[Chunk]:
        """Yield the file's rows.

        Raises:
            GranaryError: the file is truncated, not of its kind, or gone.
        """
        del watermark
        path = self.folder / unit.name
        try:
            yield from _parquet(path) if path.suffix == ".parquet" else _json_lines(table, path)
        except (pa.ArrowInvalid, OSError) as error:
            words = " ".join(str(error).split())[:200]
            raise GranaryError(f"the file is damaged or not {path.suffix[1:]}: {words}", str(path), ADVICE) from None


def _digest(content: bytes) -> hashlib._Hash:
    """Return the SHA-256 of a file's content, for Python 3.10, which has no file_digest."""
    return hashlib.sha256(content)


def _parquet(path: Path) -> Iterator[Chunk]:
    with pq.ParquetFile(path, memory_map=True) as file:
        empty = True
        for batch in file.iter_batches(BATCH_ROWS):
            empty = False
            yield Chunk(batch)
        if empty:
            yield Chunk(pa.RecordBatch.from_pylist([], schema=file.schema_arrow))


def _json_lines(table: Table, path: Path) -> Iterator[Chunk]:
    """Parse with Arrow; if a line does not fit, parse line by line so that only bad lines are refused."""
    content = path.read_bytes()
    options = pj.ParseOptions(explicit_schema=table.schema, unexpected_field_behavior="infer")
    try:
        parsed = pj.read_json(BytesIO(content), parse_options=options)
    except pa.ArrowInvalid:
        pass  # the file is empty, or a line is bad: which one and why is found out below
    else:
        for batch in parsed.to_batches(BATCH_ROWS):
            yield Chunk(batch)
        return
    lines = content.decode("utf-8", "replace").splitlines()
    for start in range(0, len(lines), BATCH_ROWS):
        yield _parse_lines(table, lines[start : start + BATCH_ROWS])
    if not lines:
        yield from_rows(table, [])


def _parse_lines(table: Table, lines: list[str]) -> Chunk:
    rows: list[object] = []
    broken: dict[int, Rejected] = {}
    for index, line in enumerate(lines):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            broken[index] = Rejected("", f"is no JSON: {error.msg}", {"line": line})
    chunk = from_rows(table, rows)
    places = [index for index in range(len(lines)) if index not in broken]
    broken |= {places[index]: bad for index, bad in chunk.rejected}
    return Chunk(chunk.batch, tuple(sorted(broken.items())))
