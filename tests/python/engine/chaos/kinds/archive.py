"""A landing zone whose raw rows move to files of a lake, and partly back, while files come and are corrected."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granary.readers.files.destination import Folder
from granary.tiering import archive, records
from granary.tiering.parquet_file import opened
from granary.tiering.restore import restore
from granary.warehouse.connection import query
from tests.python.engine.chaos.kinds.files import COLUMNS, FilesWorld, source
from tests.python.engine.chaos.world import SEAM, Rows, load_all

if TYPE_CHECKING:
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

STRAY = "stray files"


@dataclass(frozen=True)
class ArchiveLoader:
    """Loads both tables, archives all of their rows, brings those of one back, and removes what nobody needs."""

    folder: str
    place: str

    def load(self, settings: Settings) -> None:
        """Do it."""
        spec = source(self.folder)
        load_all(settings, spec)
        os.environ[records.PLACE] = self.place
        for table in spec.tables:
            archive.archive(settings, spec.name, table, datetime.now(timezone.utc) + timedelta(days=1))
        restore(settings, spec.name, spec.table("sales"))
        archive.sweep(settings, spec.name, kept_days=0)


class ArchiveWorld(FilesWorld):
    """Every row is once in its raw table or in one file, and no file is left that nobody knows."""

    points = (
        *SEAM,
        "archive-noted",
        "archive-written",
        "archive-read-back",
        "archive-before-commit",
        "archive-committed",
        "archive-loaded-back",
        "archive-swept",
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.place = Path(f"{self.folder}-archive")
        shutil.rmtree(self.place, ignore_errors=True)
        self.loader = ArchiveLoader(str(self.folder), str(self.place))

    def truth(self) -> dict[str, Rows]:
        return super().truth() | {STRAY: Counter()}

    def landed(self, connection: Connection) -> dict[str, Rows]:
        found = super().landed(connection)
        for one in records.archives(connection, self.source.name):
            loads = records.loads_in(connection, one.archive_id)
            assert one.sha256 is not None
            with opened(Folder(self.place), one.path, one.sha256) as file:
                rows = file.read(["_load_id", *(column.name for column in COLUMNS)]).to_pylist()
            found[one.table].update(tuple(row.values())[1:] for row in rows if row["_load_id"] in loads)
        known = {path for (path,) in query(connection, "select path from ops.archives")}
        files = [path for path in self.place.rglob("*") if path.is_file()]
        found[STRAY] = Counter((name,) for path in files if (name := str(path.relative_to(self.place))) not in known)
        return found
