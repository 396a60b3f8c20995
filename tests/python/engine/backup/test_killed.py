"""A backup or a restore that is killed on its way leaves nothing half: what was there stays, and the next one works."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from granary.backup import base, catalog, restore
from granary.backup.config import Config
from granary.warehouse import server
from tests.python.engine.backup.conftest import Kept, rows
from tests.python.support.killed import killed_at

if TYPE_CHECKING:
    from granary.readers.files.destination import Folder


@pytest.mark.parametrize("point", ["backup-base-stored", "backup-before-described"])
@pytest.mark.long
def test_a_backup_that_was_killed_is_none(kept: Kept, copy: Folder, point: str) -> None:
    before = catalog.backups(copy)
    assert killed_at(point, lambda: base.take(kept.settings, Config(to=copy.place), copy, full=True))
    assert (catalog.backups(copy), len(catalog.half_written(copy))) == (before, 1)
    made = base.take(kept.settings, Config(to=copy.place), copy)
    assert (catalog.backups(copy), catalog.half_written(copy)) == ([*before, made], [])


@pytest.mark.long
def test_a_restore_that_was_killed_is_made_again(kept: Kept) -> None:
    other = kept.other("killed")
    try:
        for point in ("restore-unpacked", "restore-before-swap"):
            assert killed_at(point, lambda: restore.restore(other, kept.config))
            assert not (other.home / "data" / "PG_VERSION").exists()
        assert killed_at("restore-swapped", lambda: restore.restore(other, kept.config))
        server.up(other)
        assert rows(other) == [1, 2, 3, 4]
    finally:
        server.down(other)
