"""Taps that a test writes: a shelf of rows, or a script of lines that are printed as they are."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.load import api as load
from granary.readers.connectors.reader import ConnectorReader
from granary.readers.singer import SINGER
from granary.sources.spec import Column, Source, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from granary.load.api import LoadResult
    from granary.warehouse.settings import Settings

TAP = Path(__file__).parents[3] / "python" / "support" / "tap_shelf.py"
ID = Column("id", pa.int64(), "Number.", nullable=False)
NAME = Column("name", pa.string(), "Its name.")
AT = Column("at", pa.string(), "When it changed.")


def things(*columns: Column, **more: Any) -> Table:
    """Return a table of things, merged by their number."""
    options = {"disposition": "merge", "freshness": timedelta(days=1), "key": ("id",), "max_refused": 0.5} | more
    return Table("things", "Things.", "things", (ID, *(columns or (NAME,))), **options)


def record(**values: Any) -> str:
    return message("RECORD", stream="things", record=values)


def message(kind: str, **parts: Any) -> str:
    return json.dumps({"type": kind, **parts})


def state(mark: Any) -> str:
    return message("STATE", value={"bookmarks": {"things": mark}})


def schema(**kinds: str) -> str:
    properties = {name: {"type": [kind, "null"]} for name, kind in kinds.items()}
    return message("SCHEMA", stream="things", schema={"properties": properties}, key_properties=["id"])


SCHEMA = schema(id="integer", name="string")


@dataclass
class Tap:
    """A source with one table, whose tap prints what the test says."""

    settings: Settings
    folder: Path
    patch: pytest.MonkeyPatch
    config: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    settings_of_source: tuple[str, ...] = ()
    readers: list[ConnectorReader] = field(default_factory=list)

    def shelf(self, rows: list[dict[str, Any]], **config: Any) -> None:
        """Have these rows on the shelf."""
        path = self.folder / "shelf.json"
        path.write_text(json.dumps({"things": rows}))
        self.config = {"shelf": str(path), **config}

    def script(self, *lines: str) -> None:
        """Have these lines printed."""
        path = self.folder / "script"
        path.write_text("\n".join(lines) + "\n")
        self.config = {**self.config, "script": str(path)}

    def reader(self, _: Mapping[str, str]) -> ConnectorReader:
        options: dict[str, Any] = {
            "needs": {}, "metadata": {}, "silence": 20.0, "rows": 1_000_000, "seconds": 600.0, "more": {},
            "guarantees": SINGER,
        } | self.options  # fmt: skip
        reader = ConnectorReader("tap-shelf", lambda: [sys.executable, "-S", str(TAP)], self.config, **options)
        self.readers.append(reader)
        return reader

    def load(self, table: Table | None = None, **options: Any) -> LoadResult:
        """Load the table once."""
        source = Source(
            "shelf", "A shelf.", "tests", "singer", self.settings_of_source, self.reader, (table or things(),)
        )
        self.patch.setattr(load, "SOURCES", {"shelf": source})
        return load.load_table(self.settings, "shelf", "things", **options)


@pytest.fixture
def tap(warehouse: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tap:
    """Return a tap that prints nothing yet."""
    return Tap(warehouse, tmp_path, monkeypatch)


@pytest.fixture
def there(rows: Callable[..., list[tuple[object, ...]]]) -> Callable[[], list[tuple[object, ...]]]:
    """Return a function that returns the things that are in the warehouse."""
    return lambda: rows("select id, name from raw_shelf.things order by id")
