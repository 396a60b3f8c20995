"""Which runs are at work: the process that executes one holds a lock on a file for as long as it lives.

The system lets go of the lock however the process ends: by `kill -9` or with the machine too. So a run that Dagster
takes for started, and whose lock is free, is dead: it is marked as failed, since the next ones would wait for it.
A run without a file in this home is somebody else's, and left alone.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from granary.warehouse.filelock import FileLockedError, locked, take

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import dagster as dg

    from granary.warehouse.settings import Settings

DIED = "The process of this run is gone: it was killed, or the machine went down. What it loaded stays; run again."
_held: dict[str, TextIO] = {}


def folder(settings: Settings) -> Path:
    """Return the folder with a file for each run that a process of this home works on."""
    return settings.home / "dagster" / "running"


def hold(settings: Settings, run_id: str) -> None:
    """Say that this process works on a run, until it ends; once more does nothing."""
    if run_id in _held:
        return
    folder(settings).mkdir(parents=True, exist_ok=True)
    _held[run_id] = take(folder(settings) / run_id, "looking whether this run is alive")


@contextmanager
def held(settings: Settings, run_id: str) -> Iterator[None]:
    """Say that this process works on a run while this is open."""
    hold(settings, run_id)
    try:
        yield
    finally:
        (folder(settings) / run_id).unlink(missing_ok=True)
        _held.pop(run_id).close()


def fail_dead_runs(settings: Settings, instance: dg.DagsterInstance) -> list[str]:
    """Mark the runs of this home whose process is gone as failed (or canceled, if somebody had asked for it).

    Returns:
        The ids of these runs.
    """
    dead = []
    for path in sorted(folder(settings).glob("*")):
        if path.name in _held:
            continue
        with suppress(FileLockedError), locked(path, "at work on this run", seconds=0):
            run = instance.get_run_by_id(path.name)
            if run is not None and not run.is_finished:
                report = instance.report_run_canceled if run.status.value == "CANCELING" else instance.report_run_failed
                report(run, DIED)
                dead.append(run.run_id)
            path.unlink(missing_ok=True)
    return dead
