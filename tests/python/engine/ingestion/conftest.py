"""Landing zones, a CRM database and an HTTP service that misbehaves on request: all real, all on loopback."""

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
from ingestion.pos import TRANSACTIONS
from tests.python.support.shop import Shop

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.load.api import LoadResult
    from granary.sources.spec import Table
    from granary.warehouse.settings import Settings


def lines(day: str, number: int = 3, **changes: list[Any]) -> pa.Table:
    """Return receipt lines of one basket: prices 1.00, 2.00, ... at noon UTC of the day."""
    noon = datetime.fromisoformat(f"{day}T12:00:00") + timedelta(0)
    columns: dict[str, list[Any]] = {
        "household_id": [7] * number,
        "store_id": [42] * number,
        "basket_id": [int(day.replace("-", ""))] * number,
        "product_id": list(range(1, number + 1)),
        "quantity": [1] * number,
        "sales_value": [float(n) for n in range(1, number + 1)],
        "retail_disc": [0.0] * number,
        "coupon_disc": [0.0] * number,
        "coupon_match_disc": [0.0] * number,
        "week": [2] * number,
        "transaction_timestamp": [noon] * number,
    }
    return pa.Table.from_pydict(columns | changes, schema=TRANSACTIONS.schema if not changes else None)


@dataclass
class Landing:
    """A POS landing zone."""

    folder: Path

    def put(self, day: str, table: pa.Table | bytes) -> Path:
        path = self.folder / "transactions" / f"{day}.parquet"
        if isinstance(table, bytes):
            path.write_bytes(table)
        else:
            pq.write_table(table, path)
        return path


@pytest.fixture
def landing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Landing:
    """Return an empty landing zone that the source `pos` reads."""
    (tmp_path / "pos" / "transactions").mkdir(parents=True)
    (tmp_path / "pos" / "promotions").mkdir()
    monkeypatch.setenv("GRANARY_POS_LANDING", str(tmp_path / "pos"))
    return Landing(tmp_path / "pos")


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
