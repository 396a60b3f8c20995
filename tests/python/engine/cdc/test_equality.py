"""The copy equals the source: after a quiet capture, and after kills at each named point under a write load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from granary.cdc.capture import opened

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings
    from tests.python.support.captured_shop import Shop


def test_snapshot_then_changes(warehouse: Settings, shop: Shop) -> None:
    with opened(warehouse, shop.source) as capturing:
        first = capturing.once()
        assert first.rows_copied == sum(
            shop.rows(f"select count(*) from {t}")[0][0] for t in ("articles", '"Order Lines"', "pages")
        )
        assert shop.differences(warehouse) == {}
        with shop.writing(seed=7, transactions=40):
            pass
        last = capturing.once()
    assert last.changes > 100
    assert shop.differences(warehouse) == {}


POINTS = (
    "cdc-intent",
    "cdc-slot",
    "cdc-snapshot:2",
    "mid-copy:3",
    "cdc-peeked",
    "cdc-changes:2",
    "cdc-applied:2",
    "before-commit",
    "after-commit",
    "cdc-before-advance",
    "cdc-after-advance",
)
"""Where the capture is killed: the first four in the initial copy, the others in the stream."""


@pytest.mark.long
def test_killed_everywhere_under_load(warehouse: Settings, shop: Shop) -> None:
    with shop.writing(seed=11) as warm:
        assert warm.wait(30)
        for point in POINTS[:4]:
            assert killed(shop, warehouse, point)
        finish(shop, warehouse)
        for number, point in enumerate(POINTS[4:]):
            # The writers may be slow today: each point needs changes to come to.
            for _ in shop.commits(seed=100 + number, transactions=20):
                pass
            assert killed(shop, warehouse, point)
        finish(shop, warehouse)
    finish(shop, warehouse)
    assert shop.differences(warehouse) == {}


def killed(shop: Shop, warehouse: Settings, point: str) -> bool:
    process = shop.capture(warehouse, kill_at=point)
    out, err = process.communicate(timeout=120)
    assert process.returncode in (0, -9), out + err
    return process.returncode == -9


def finish(shop: Shop, warehouse: Settings) -> None:
    process = shop.capture(warehouse)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
