"""A raw table that was made before its contract had a key gets it with the next load, or says why it cannot."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from granary.load.append import append
from granary.load.json_objects import from_rows
from granary.sources.discovery import SOURCES
from granary.sources.spec import Table
from granary.sources.units import Unit
from granary.warehouse.errors import GranaryError
from granary.warehouse.writer import LoadTransaction
from tests.python.support.project.ingestion.events import CARD_SCANS
from tests.python.support.stream_servers import event, landed

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

FORMER = replace(CARD_SCANS, disposition="replace_unit", key=())


def put(settings: Settings, table: Table, *numbers: int) -> None:
    rows = [event(number) for number in numbers]
    with LoadTransaction(settings, "events") as tx:
        append(tx, SOURCES["events"], table, Unit("test"), [from_rows(table, rows)])


def test_a_table_without_its_key(warehouse: Settings) -> None:
    put(warehouse, FORMER, 1, 2)
    put(warehouse, CARD_SCANS, 2, 3)
    assert landed(warehouse) == [("e1",), ("e2",), ("e3",)]


def test_a_table_whose_rows_share_a_key(warehouse: Settings) -> None:
    put(warehouse, FORMER, 1, 1)
    with pytest.raises(GranaryError, match="cannot have its key: could not create unique index"):
        put(warehouse, CARD_SCANS, 2)
    assert landed(warehouse) == [("e1",), ("e1",)]
