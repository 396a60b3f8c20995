"""The harness itself: it finds bad loaders out, and counts what is missing and what is too much."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.python.engine.chaos import sabotage
from tests.python.engine.chaos.check import compare
from tests.python.engine.chaos.drill import drill

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from granary.warehouse.settings import Settings


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


def test_multisets_are_compared() -> None:
    truth = {"t": Counter({(1,): 2, (2,): 1}), "u": Counter({(5,): 1})}
    assert compare(truth, truth | {"of nobody": Counter({(9,): 1})}).none
    found = compare(truth, {"t": Counter({(1,): 1, (2,): 3, (3,): 1})})
    assert (found.lost, found.double) == (2, 3)
