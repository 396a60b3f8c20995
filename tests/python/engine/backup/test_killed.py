"""A backup or a restore that is killed on its way leaves nothing half: what was there stays, and the next one works."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from granary.backup import base, catalog, restore
from granary.backup.config import Config
from granary.warehouse import faults, server
from tests.python.engine.backup.conftest import Kept, rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.readers.files.destination import Folder


def killed_at(point: str, work: Callable[[], object]) -> bool:
    """Do something in a process of its own that is killed at a named point; return whether it came there."""
    pid = os.fork()
    if not pid:
        try:
            faults.arm(point)
            work()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("point", ["backup-base-stored", "backup-before-described"])
def test_a_backup_that_was_killed_is_none(kept: Kept, copy: Folder, point: str) -> None:
    before = catalog.backups(copy)
    assert killed_at(point, lambda: base.take(kept.settings, Config(to=copy.place), copy, full=True))
    assert (catalog.backups(copy), len(catalog.half_written(copy))) == (before, 1)
    made = base.take(kept.settings, Config(to=copy.place), copy)
    assert (catalog.backups(copy), catalog.half_written(copy)) == ([*before, made], [])


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
