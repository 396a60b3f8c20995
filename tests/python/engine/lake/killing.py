"""An export in a process of its own that is killed on its way; a fork of one that no reader's threads are in."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

from granary.lake import delta, export, iceberg  # noqa: F401 - what a fork need not import again
from granary.warehouse import faults

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.python.engine.lake.killing", "pyiceberg.io.pyarrow", "deltalake"])


def killed_at(point: str, settings: Settings, wanted: export.Wanted) -> int | None:
    """Export in a process that ends itself at a named point; return its exit code."""
    process = FORKS.Process(target=_export, args=(point, settings, wanted))
    process.start()
    process.join()
    return process.exitcode


def _export(point: str, settings: Settings, wanted: export.Wanted) -> None:
    faults.arm(point)
    export.export(settings, wanted)
