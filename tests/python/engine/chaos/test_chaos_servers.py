"""The server under a loader killed, cut off and full, once each."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from granary.warehouse import server
from granary.warehouse.settings import Settings
from tests.python.engine.chaos.drill import SERVER, drill

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def breakable() -> Iterator[Settings]:
    """Return an embedded server of this test's own."""
    home = Path(tempfile.mkdtemp(prefix="granary-", dir="/tmp"))  # short, since a socket's path has to be
    home.chmod(0o755)
    settings = Settings(home=home, external=False, host=str(home / "run"))
    server.up(settings)
    yield settings
    server.down(settings)
    shutil.rmtree(home)


@pytest.mark.long
def test_every_row_is_there_exactly_once(breakable: Settings, tmp_path: Path) -> None:
    wanted = dict.fromkeys(SERVER, 1)
    cells = drill("files", breakable, tmp_path, wanted, seed=2017)
    assert {name: cell.runs for name, cell in cells.items()} == wanted
    assert all(cell.good for cell in cells.values()), {name: cell for name, cell in cells.items() if not cell.good}
