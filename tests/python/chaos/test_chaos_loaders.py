"""Loaders killed at every named point, twice each, and two at once: `make chaos` does the same by the hundred."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.python.chaos.drill import drill
from tests.python.chaos.kinds import KINDS
from tests.python.chaos.strikes import SEAM

if TYPE_CHECKING:
    from pathlib import Path

    from warehouse.settings import Settings

WANTED = dict.fromkeys(SEAM, 2) | {"two loaders": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_there_exactly_once(kind: str, settings: Settings, tmp_path: Path) -> None:
    cells = drill(kind, settings, tmp_path, WANTED, seed=2017)
    assert {name: cell.runs for name, cell in cells.items()} == WANTED
    assert all(cell.good for cell in cells.values()), {name: cell for name, cell in cells.items() if not cell.good}
