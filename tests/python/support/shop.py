"""A source whose deliveries a test writes down: each unit is a list of batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.sources.spec import Column, Source, Table
from granary.sources.units import SourceBatch, Unit

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = Column("id", pa.int64(), "Key.", nullable=False)


def table(*columns: Column, **options: Any) -> Table:
    """Return a contract `shop.orders` with these columns after its key."""
    settings: dict[str, Any] = {"disposition": "replace_unit", "freshness": timedelta(days=1), "max_refused": 1.0}
    return Table("orders", "Orders.", "orders", (KEY, *columns), **(settings | options))


@dataclass
class Shop:
    """A reader of what was put into it; a unit's value may be an error to raise instead."""

    units_by_name: dict[str, tuple[Unit, list[SourceBatch] | Exception]] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)

    def put(
        self, name: str, *batches: Any, fingerprint: str = "1", error: Exception | None = None, **unit: Any
    ) -> None:
        """Offer a unit of these batches (dicts of columns are batches, too)."""
        source_batches = [
            b
            if isinstance(b, SourceBatch)
            else SourceBatch(b if isinstance(b, pa.RecordBatch) else pa.RecordBatch.from_pydict(b))
            for b in batches
        ]
        self.units_by_name[name] = Unit(name, **({"fingerprint": fingerprint} | unit)), error or source_batches

    def units(self, table: Table, watermark: str | None) -> list[Unit]:
        return [unit for unit, _ in self.units_by_name.values()]

    def read(self, table: Table, unit: Unit, watermark: str | None) -> Iterator[SourceBatch]:
        self.opened.append(unit.name)
        content = self.units_by_name[unit.name][1]
        if isinstance(content, Exception):
            raise content
        yield from content

    def source(self, contract: Table) -> Source:
        """Return the source with this contract."""
        return Source("shop", "A shop.", "shop", "files", (), lambda _: self, (contract,))
