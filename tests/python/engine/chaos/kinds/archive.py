"""A landing zone whose raw rows move to files of a lake, and partly back, while files come and are corrected.

In each round somebody is forgotten, whose rows are in such files.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granary.privacy import forget
from granary.privacy.identity import identity_of
from granary.readers.files.destination import Folder
from granary.tiering import archive, records, restore
from granary.tiering.parquet_file import opened
from granary.tiering.without import ArchivedRows
from granary.warehouse.connection import query
from tests.python.engine.chaos.kinds.files import COLUMNS, FilesWorld
from tests.python.engine.chaos.kinds.restore import VISITOR, no_models, source, visitors, without
from tests.python.engine.chaos.world import SEAM, Rows, load_all

if TYPE_CHECKING:
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

NAME = "chaos_archive"
STRAY = "stray files"
FORGOTTEN: dict[str, set[int]] = {}
"""Who is forgotten, by landing zone."""


@dataclass(frozen=True)
class ArchiveLoader:
    """Loads both tables, archives all rows, forgets one visitor, brings one table back, and removes what is left."""

    folder: str
    place: str
    visitor: int = 0

    def load(self, settings: Settings) -> None:
        """Do it."""
        with visitors():
            spec = source(self.folder, NAME)
            load_all(settings, spec)
            os.environ[records.PLACE] = self.place
            for table in spec.tables:
                archive.archive(settings, spec.name, table, datetime.now(timezone.utc) + timedelta(days=1))
            with no_models(spec):
                forget.forget(settings, identity_of(VISITOR, self.visitor), archive=ArchivedRows(settings))
                restore.forget_files(settings)
            restore.restore(settings, spec.name, spec.table("sales"))
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
        "archive-rewriting",
        "archive-rewritten",
        "archive-compared",
        "archive-switched",
        "archive-loaded-back",
        "archive-swept",
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.place = Path(f"{self.folder}-archive")
        shutil.rmtree(self.place, ignore_errors=True)
        with visitors():
            self.source = source(str(self.folder), NAME)
        self.tables = self.source.tables
        self.gone = FORGOTTEN.setdefault(str(self.folder), set())  # the warehouse is the same one: they stay so

    def advance(self) -> None:
        super().advance()
        number = self.random.choice(sorted(row[0] for row in self.truth()["visits"]))
        self.gone.add(number)
        self.loader = ArchiveLoader(str(self.folder), str(self.place), number)

    def truth(self) -> dict[str, Rows]:
        return without(super().truth(), self.gone) | {STRAY: Counter()}

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
