"""A landing zone of the tills, and a shop whose deliveries a test writes down."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from granary.load import api as load
from granary.load.api import load_table
from granary.sources import select
from tests.python.support.project.ingestion.till import RECEIPTS
from tests.python.support.shop import Shop

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.load.api import LoadResult
    from granary.sources.spec import Table
    from granary.warehouse.settings import Settings


def lines(day: str, number: int = 3, **changes: list[Any]) -> pa.Table:
    """Return lines of one receipt: amounts of 1.00, 2.00, ... at noon UTC of the day."""
    noon = datetime.fromisoformat(f"{day}T12:00:00") + timedelta(0)
    columns: dict[str, list[Any]] = {
        "member_id": [7] * number,
        "shop_id": [42] * number,
        "receipt_id": [int(day.replace("-", ""))] * number,
        "article_id": list(range(1, number + 1)),
        "quantity": [1] * number,
        "amount": [float(n) for n in range(1, number + 1)],
        "discount": [0.0] * number,
        "week": [2] * number,
        "paid_at": [noon] * number,
    }
    return pa.Table.from_pydict(columns | changes, schema=RECEIPTS.schema if not changes else None)


@dataclass
class Landing:
    """The landing zone of the tills."""

    folder: Path

    def put(self, day: str, table: pa.Table | bytes) -> Path:
        path = self.folder / "receipts" / f"{day}.parquet"
        if isinstance(table, bytes):
            path.write_bytes(table)
        else:
            pq.write_table(table, path)
        return path


@pytest.fixture
def landing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Landing:
    """Return an empty landing zone that the source `till` reads."""
    (tmp_path / "till" / "receipts").mkdir(parents=True)
    (tmp_path / "till" / "prices").mkdir()
    monkeypatch.setenv("GRANARY_TILL_LANDING", str(tmp_path / "till"))
    return Landing(tmp_path / "till")


@pytest.fixture
def shop() -> Shop:
    """Return a source without rows, whose contract each load is given."""
    return Shop()


@pytest.fixture
def land(warehouse: Settings, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LoadResult]:
    """Return a function that loads what the shop offers under a contract."""

    def run(contract: Table, **options: Any) -> LoadResult:
        sources = {"shop": shop.source(contract)}
        monkeypatch.setattr(load, "SOURCES", sources)
        monkeypatch.setattr(select, "SOURCES", sources)
        return load_table(warehouse, "shop", "orders", **options)

    return run
