"""Who is forgotten is known beside the backups at once, and stays forgotten when the data directory is lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from granary.backup import base, erasures
from granary.backup.config import Config
from granary.readers.files.destination import Folder
from granary.warehouse.connection import connect, execute, query
from tests.python.engine.chaos.kinds.restore import destroy
from tests.python.support.bike_hire import BikeHire
from tests.python.support.command import own_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RIDES = "select ride_id from {} order by 1"


@pytest.fixture
def hire(quick: pytest.MonkeyPatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BikeHire]:
    """Return a project with three riders, of whom old rows are archived, and a backup of it."""
    with own_server(quick) as settings:
        hire = BikeHire(settings, tmp_path)
        for name, value in hire.environment(tmp_path / "archive").items():
            monkeypatch.setenv(name, value)
        (hire.folder / "backup.yml").write_text(f"to: {tmp_path}/backups\n")
        hire.deliver("2026-01-05", (1, 7, "1.00"), (2, 8, "2.00"))
        hire.deliver("2026-02-01", (4, 7, "4.00"))
        hire.deliver("2026-04-30", (5, 9, "5.00"))
        hire.command("load")
        assert hire.build() == []
        hire.command("archive-raw")
        hire.command("backup")
        yield hire


@pytest.mark.long
def test_a_destroyed_data_directory_brings_nobody_back(hire: BikeHire, tmp_path: Path) -> None:
    listed = tmp_path / "backups" / "erasures.jsonl"
    assert "The backups do not know" not in hire.command("forget", "rider", "7", "--yes")
    (entry,) = map(json.loads, listed.read_text().splitlines())
    assert (len(entry["subject"]), entry["reason"]) == (64, None)

    destroy(hire.settings)
    told = hire.command("restore")
    assert "Erased again, since they were forgotten later: 1" in told
    assert hire.rows(RIDES.format("marts.fct_rides")) == [(2,), (5,)]
    found = [pq.read_table(path).column("rider_id").to_pylist() for path in (tmp_path / "archive").rglob("*.parquet")]
    assert all(7 not in riders for riders in found)
    hire.command("archive-raw", "hire.rides", "--restore")
    assert hire.rows(RIDES.format("raw_hire.rides")) == [(2,), (5,)]
    assert hire.build("--full-refresh") == []

    # A destination that is away is said, and told by the next backup.
    (tmp_path / "backups").rename(tmp_path / "away")
    (tmp_path / "backups").write_text("no folder")
    told = hire.command("forget", "rider", "8", "--yes")
    assert "The backups do not know of it yet: the destination refuses it" in told
    assert hire.rows(RIDES.format("marts.fct_rides")) == [(5,)]
    (tmp_path / "backups").unlink()
    (tmp_path / "away").rename(tmp_path / "backups")
    hire.command("backup")
    assert len(listed.read_text().splitlines()) == 2
    assert "forgotten: 1 of 1 as it should be" in hire.command("drill")


def test_backups_of_another_home_are_not_told(
    quick: pytest.MonkeyPatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(to=f"{tmp_path}/backups")
    monkeypatch.setattr(erasures, "load", lambda: config)
    with own_server(quick) as settings:
        base.take(settings, config, Folder(tmp_path / "backups"))
        assert erasures.tell_backups(settings) == ""
        owner = tmp_path / "backups" / "granary.json"
        owner.write_text(json.dumps(json.loads(owner.read_text()) | {"home": "x"}))
        with connect(settings) as connection:
            execute(connection, "insert into ops.erasures (subject, key_mark) values ('aa', 'bb')")
            connection.commit()
            assert query(connection, "select count(*) from ops.erasures") == [(1,)]
        assert "another home of this warehouse" in erasures.tell_backups(settings)
