"""A shop that delivers by the day, and what is said of its deliveries."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.load import api as load
from granary.load.api import load_table
from granary.monitoring.anomalies import config, look
from granary.monitoring.anomalies.look import Look
from granary.monitoring.anomalies.records import lines
from granary.sources import select
from granary.sources.spec import Column
from tests.python.support.shop import Shop, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.settings import Settings

FIRST = date(2026, 1, 5)
DAYS = 60
ROWS = 200
ORDERS = table(
    Column("member", pa.string(), "Who ordered.", personal="identifier"),
    Column("e_mail", pa.string(), "Where to write to; by its name that of a person."),
    Column("amount", pa.float64(), "What was paid."),
    Column("discount", pa.float64(), "What was let off."),
    Column("pieces", pa.int64(), "How many."),
    Column("state", pa.string(), "How far it is."),
    Column("ordered_at", pa.timestamp("us"), "When, UTC without a zone."),
    partition="day",
)


def orders(day: date, number: int = ROWS) -> dict[str, list[Any]]:
    """Return a day's orders: in twelve hours of the day, of 5 to 50, a tenth of it let off."""
    chance = random.Random(day.toordinal())
    amounts = [round(chance.uniform(5, 50), 2) for _ in range(number)]
    morning = datetime.fromisoformat(f"{day}T14:00:00")
    return {
        "id": [day.toordinal() * 1_000 + n for n in range(number)],
        "member": [f"member {chance.randrange(90)}" for _ in range(number)],
        "e_mail": [f"{chance.randrange(90)}@example.org" for _ in range(number)],
        "amount": amounts,
        "discount": [round(amount / 10, 2) for amount in amounts],
        "pieces": [chance.choice([1, 1, 2, 3]) for _ in range(number)],
        "state": [chance.choice(["paid", "paid", "sent", "open"]) for _ in range(number)],
        "ordered_at": [morning + timedelta(minutes=chance.randrange(720)) for _ in range(number)],
    }


@dataclass
class Watched:
    """A shop that delivers by the day, and what is said of its deliveries."""

    settings: Settings
    shop: Shop = field(default_factory=Shop)
    deliveries: int = 0

    def put(self, day: date, rows: dict[str, list[Any]] | None) -> None:
        self.deliveries += 1
        if rows is not None:
            self.shop.put(day.isoformat(), rows, fingerprint=str(self.deliveries), date=day)

    def look(self) -> Look:
        load_table(self.settings, "shop", "orders")
        found = look.look(self.settings, "shop", ORDERS)
        assert not found.problem
        return found

    def deliver(self, day: date, rows: dict[str, list[Any]] | None) -> list[str]:
        self.put(day, rows)
        return lines(self.look().new)


@pytest.fixture
def shop(warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    """Return a shop that has delivered for 60 days, of which nothing is unusual."""
    monkeypatch.setattr(config, "project_vars", dict)
    config.config.cache_clear()
    watched = Watched(warehouse)
    sources = {"shop": watched.shop.source(ORDERS)}
    monkeypatch.setattr(load, "SOURCES", sources)
    monkeypatch.setattr(select, "SOURCES", sources)
    for n in range(DAYS):
        watched.put(FIRST + timedelta(days=n), orders(FIRST + timedelta(days=n)))
    yield watched
    config.config.cache_clear()


TODAY = FIRST + timedelta(days=DAYS)


def first(share: float, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return the first rows of a delivery."""
    return {name: values[: int(share * len(values))] for name, values in rows.items()}
