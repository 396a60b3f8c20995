"""`granary doctor SOURCE` at files: places, patterns, columns and times."""

from __future__ import annotations

import gzip
import os
import time
from typing import TYPE_CHECKING

from granary.load.api import load_table
from granary.readers.files import FileReader
from granary.warehouse.connection import connect, query
from tests.python.engine.files.conftest import table
from tests.python.support.worked_examples import example

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from granary.warehouse.settings import Settings

GOOD = "id,name,born,score\n1,Ada,1815-12-10,1.5\n"


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    (found,) = FileReader(str(tmp_path / "nowhere")).examine([table()])
    assert (found.severity, found.where.partition(":")[0]) == ("problem", "people")


def test_a_pattern_that_matches_nothing_is_a_hint(tmp_path: Path) -> None:
    (found,) = FileReader(str(tmp_path)).examine([table("persons*.csv")])
    assert (found.what, found.how_large, found.severity) == ("there is nothing to load", "persons*.csv", "hint")


def test_a_file_without_a_column(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("id,name,born\n1,Ada,1815-12-10\n")
    (found,) = FileReader(str(tmp_path)).examine([table()])
    assert (found.what, found.severity) == ("there is no column score", "problem")


def test_a_file_from_the_future_and_one_that_no_table_takes(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text(GOOD)
    assert list(FileReader(str(tmp_path)).examine([table()])) == []
    ahead = time.time() + 7_200
    os.utime(tmp_path / "people.csv", (ahead, ahead))
    (tmp_path / "stray.csv").write_text(GOOD)
    late, stray = FileReader(str(tmp_path)).examine([table()])
    assert (late.what, late.where, late.severity) == ("the source's clock is not ours", "people.csv", "problem")
    assert (stray.where, stray.severity) == ("stray.csv", "hint")


def test_the_guide_s_example(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "people"
    folder.mkdir()
    (folder / "berlin.csv.gz").write_bytes(gzip.compress(b"Person ID;name;born\n1;Ada;10.12.1815\n"))
    keys = {"GRANARY_REGISTRY_KEY": "of a bucket", "GRANARY_REGISTRY_SECRET": "of a bucket"}
    source = example("files", monkeypatch, GRANARY_REGISTRY_URL=str(tmp_path), **keys)
    assert load_table(settings, "registry", "people").rows_loaded == 1
    with connect(settings) as connection:
        assert query(connection, "select person_id, name, born::text from raw_registry.people") == [
            (1, "Ada", "1815-12-10")
        ]
    assert list(source.reader(settings).examine(source.tables)) == []
