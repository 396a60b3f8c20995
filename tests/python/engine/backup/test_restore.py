"""A backup and the way back: everything, any moment, and plain words where it cannot be."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from granary.backup import base, catalog, restore
from granary.backup.config import Config
from granary.backup.log import LogShipper
from granary.readers.files.destination import Folder
from granary.warehouse import layout, server
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError
from tests.python.engine.backup.conftest import Kept, rows, tell

if TYPE_CHECKING:
    from collections.abc import Callable


def test_the_second_backup_has_what_has_changed(kept: Kept) -> None:
    first, second = kept.backups
    assert (first.kind, second.kind, second.parent) == ("full", "incremental", first.name)
    assert second.data_bytes < first.data_bytes / 4
    assert first.files.keys() == {"base.tar.zst", "project.tar.zst"}


def test_everything_and_any_moment_come_back(kept: Kept) -> None:
    copy = kept.other("moments")
    try:
        done = restore.restore(copy, kept.config)
        assert (done.backup, rows(copy)) == (kept.backups[1].name, [1, 2, 3, 4])
        assert "profile: granary" in (copy.home / "backup" / "project" / "dbt_project.yml").read_text()
        with pytest.raises(GranaryError, match="there is a warehouse"):
            restore.restore(copy, kept.config)
        restore.restore(copy, kept.config, at=kept.after_three, replace_it=True)
        assert rows(copy) == [1, 2, 3]
        assert rows(kept.settings) == [1, 2, 3, 4]
    finally:
        server.down(copy)


def test_the_log_goes_on_after_a_restore(kept: Kept, copy: Folder) -> None:
    """The restored warehouse writes to the same place once it has taken it over; both times are there."""
    other = kept.other("later")
    config = Config(to=copy.place)
    try:
        third = base.take(kept.settings, config, copy)
        LogShipper(kept.settings, copy).round()
        restore.restore(other, config, at=third.finished)
        with pytest.raises(GranaryError, match="belongs to another home of this warehouse"):
            LogShipper(other, copy).round()
        tell(other, 5)
        shipped = LogShipper(other, copy, take_over=True).round()
        assert (shipped.position.timeline, shipped.gap) == (2, "")
        restore.restore(other, config, at=kept.after_three, replace_it=True)  # before the third backup
        tell(other, 6)
        assert LogShipper(other, copy).round().position.timeline == 3
        restore.restore(other, config, replace_it=True)  # not from the third backup, whose time was left
        assert rows(other) == [1, 2, 3, 6]
        made = base.take(other, config, copy)
        assert (made.kind, made.timeline) == ("full", 4)
    finally:
        server.down(other)


def test_a_place_is_for_one_warehouse(kept: Kept, copy: Folder) -> None:
    catalog.write(copy, catalog.OWNER_FILE, {"system": "7", "home": "x", "format": 1})
    with pytest.raises(GranaryError, match="has the backups of another warehouse"):
        base.take(kept.settings, kept.config, copy)


def test_at_rest_nothing_is_stored(kept: Kept, tmp_path: Path) -> None:
    """The server itself writes a line at most every 15 seconds: of two rounds at once one finds nothing."""
    place = Folder(tmp_path)
    shipper = LogShipper(kept.settings, place)
    shipper.round()
    rounds = []
    for _ in range(2):
        before = place.names(catalog.WAL)
        done = shipper.round()
        rounds.append((done.segments, done.partial, place.names(catalog.WAL) == before))
    assert (0, False, True) in rounds


def test_a_hole_in_the_log_is_noticed(kept: Kept, copy: Folder) -> None:
    """The slot was gone for a while: what was written meanwhile may be lost, and the next backup stands by itself."""
    before = catalog.position(copy)
    assert before is not None
    catalog.write(copy, catalog.POSITION_FILE, vars(before) | {"lsn": 1 << 24})
    assert "is lost" in LogShipper(kept.settings, copy).round().gap


def test_a_moment_is_restored_from_the_backup_before_it(kept: Kept, tmp_path: Path) -> None:
    first, second = kept.backups
    chains = {at: restore.choose(kept.place, at, tmp_path).chain for at in (first.finished, second.finished)}
    assert chains == {first.finished: (first,), second.finished: (first, second)}


# -- what cannot be restored, and how that is said -----------------------------------------------------------


def _cut(place: Path, backup: catalog.Backup) -> None:
    with (place / backup.file("base.tar.zst")).open("r+b") as file:
        file.truncate(100_000)


def _flip(place: Path, backup: catalog.Backup) -> None:
    with (place / backup.file("base.tar.zst")).open("r+b") as file:
        file.seek(-100, 2)
        file.write(b"spoiled")


def _vanish(place: Path, backup: catalog.Backup) -> None:
    (place / backup.file("base.tar.zst")).unlink()


def _spoil_log(place: Path, backup: catalog.Backup) -> None:
    (path,) = place.glob("wal/*.partial.zst")
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_cut, r"the file is damaged \(.*base.tar.zst\); restore from another backup"),
        (_flip, r"the file is damaged"),
        (_vanish, r"a file of the backup is missing .*base.tar.zst"),
        (_spoil_log, r"the file is damaged .*partial.zst"),
    ],
)
def test_a_damaged_backup_leaves_what_is_there(
    kept: Kept, copy: Folder, damage: Callable[[Path, catalog.Backup], None], said: str
) -> None:
    damage(Path(copy.place), kept.backups[0])
    other = kept.other("damaged")
    other.home.mkdir(exist_ok=True)
    (other.home / "mine").touch()
    with pytest.raises(GranaryError, match=said):
        restore.restore(other, Config(to=copy.place))
    assert (other.home / "mine").exists()
    assert not (other.home / "data" / "PG_VERSION").exists()
    restore.clear(restore.aside_of(other))


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (timedelta(days=-1), r"is before the first backup .*; the first moment is \d{4}"),
        (timedelta(days=1), r"is after the last that is stored .*; the last moment is \d{4}"),
    ],
)
def test_a_moment_that_is_not_there(kept: Kept, tmp_path: Path, at: timedelta, said: str) -> None:
    with pytest.raises(GranaryError, match=said):
        restore.choose(kept.place, datetime.now(timezone.utc) + at, tmp_path)


def test_no_backup_and_half_a_one(kept: Kept, copy: Folder, tmp_path: Path) -> None:
    with pytest.raises(GranaryError, match="there is no backup"):
        restore.choose(Folder(tmp_path / "nowhere"), None, tmp_path)
    for one in kept.backups:
        copy.remove(one.file(catalog.DESCRIPTION))
    with pytest.raises(GranaryError, match=r"no complete backup, only the half-written \d+T\d+Z-incremental"):
        restore.choose(copy, None, tmp_path)
    made = base.take(kept.settings, kept.config, copy)
    assert (made.kind, catalog.half_written(copy)) == ("full", [])
    assert not copy.names(f"backups/{kept.backups[0].name}")


def test_what_a_backup_stands_on_is_missing(kept: Kept, copy: Folder, tmp_path: Path) -> None:
    copy.remove(kept.backups[0].file(catalog.DESCRIPTION))
    with pytest.raises(GranaryError, match=rf"stands on {kept.backups[0].name}, which is not there"):
        restore.choose(copy, None, tmp_path)


def test_the_log_of_a_backup_is_missing(kept: Kept, copy: Folder, tmp_path: Path) -> None:
    shutil.rmtree(Path(copy.place) / "wal")
    catalog.write(copy, catalog.POSITION_FILE, vars(catalog.position(kept.place)))
    with pytest.raises(GranaryError, match=r"the log that backup .* needs is not there: 0{7}1"):
        restore.choose(copy, None, tmp_path)


def test_another_major_version(kept: Kept, copy: Folder, tmp_path: Path) -> None:
    path = Path(copy.place) / kept.backups[1].file(catalog.DESCRIPTION)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"postgres": 17}))
    with pytest.raises(GranaryError, match="the backup is of Postgres 17, and this engine has 18"):
        restore.choose(copy, None, tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(GranaryError, match="the backup is of another format"):
        restore.choose(copy, None, tmp_path)
    path.write_text("{")
    with pytest.raises(GranaryError, match="the description cannot be read"):
        restore.choose(copy, None, tmp_path)


def test_the_disk_is_too_small(kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(GranaryError, match=r"the disk is too small: 0\.\d GB are needed, 0\.0 GB are free"):
        restore.choose(kept.place, None, tmp_path)


def test_the_first_backup_has_the_server_write_its_log(kept: Kept, tmp_path: Path) -> None:
    """Until then it writes a log from which nothing can be restored; nobody's work is lost when it starts again."""
    main = layout.plan(kept.settings.home).data / "granary.conf"
    text = main.read_text()
    with connect(kept.settings) as connection:
        execute(connection, "select pg_drop_replication_slot('granary_backup')")
    server.down(kept.settings)
    main.write_text(text + "wal_level = minimal\nmax_wal_senders = 0\nsummarize_wal = off\n")
    server.start(layout.plan(kept.settings.home))
    with connect(kept.settings), pytest.raises(GranaryError, match=r"somebody is connected.*connections: 1"):
        base.take(kept.settings, kept.config, Folder(tmp_path))
    said: list[str] = []
    made = base.take(kept.settings, kept.config, Folder(tmp_path), say=said.append)
    assert said[0] == "the server was started again, to write its log for backups from now on"
    assert made.kind == "full"
    with connect(kept.settings) as connection:
        assert query(connection, "show wal_level") == [("replica",)]
