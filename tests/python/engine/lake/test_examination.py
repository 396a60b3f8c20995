"""The guide's example of a source that is a lake."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import write_deltalake

from granary.load.api import load_table
from granary.sources.attempt import attempts
from granary.warehouse.connection import connect, query
from tests.python.support.worked_examples import example

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from granary.warehouse.settings import Settings


def test_the_guide_s_example(warehouse: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"GRANARY_TRIPS_KEY": "of a bucket", "GRANARY_TRIPS_SECRET": "of a bucket"}
    source = example("lake", monkeypatch, GRANARY_TRIPS_URL=str(tmp_path), **keys)
    (missing,) = attempts(source.reader(warehouse), source.tables)
    assert (missing.what, missing.severity) == ("there is no Delta table", "problem")
    began = pa.array([datetime(2024, 2, 29, 12, tzinfo=timezone.utc)], pa.timestamp("us", "UTC"))
    write_deltalake(str(tmp_path / "rentals"), pa.table({"rental_id": [1], "bike": ["b7"], "started_at": began}))
    assert list(attempts(source.reader(warehouse), source.tables)) == []
    assert load_table(warehouse, "trips", "rentals").rows_loaded == 1
    with connect(warehouse) as connection:
        assert query(connection, "select rental_id, bike from raw_trips.rentals") == [(1, "b7")]
