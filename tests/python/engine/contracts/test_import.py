"""What a source's owner promises goes before what a sample shows, and what differs is said."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import yaml

from granary.scaffold import agreed, source
from granary.scaffold.inspection import inspect_source
from granary.sources.discovery import SOURCES
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from pathlib import Path

CSV = "rental,bike,state,paid,mail\n1,007,open,1.50,a@example.com\n2,008,paid,,b@example.com\n"
CONTRACT: dict[str, Any] = {
    "apiVersion": "v3.1.0", "kind": "DataContract", "id": "x", "version": "2.1.0", "status": "active",
    "schema": [{
        "name": "rentals", "description": "Every rental.",
        "properties": [
            {"name": "rental", "logicalType": "integer", "physicalType": "int", "primaryKey": True,
             "description": "No."},
            {"name": "bike", "logicalType": "integer", "required": True, "logicalTypeOptions": {"minimum": 1}},
            {"name": "state", "logicalType": "string", "quality": [
                {"type": "library", "metric": "invalidValues", "mustBe": 0,
                 "arguments": {"validValues": ["open", "paid", "lost"]}}]},
            {"name": "paid", "logicalType": "number", "physicalType": "DECIMAL(10, 2)"},
            {"name": "mail", "logicalType": "string", "classification": "identifier",
             "logicalTypeOptions": {"maxLength": 200}},
        ],
        "quality": [{"name": "paid_later", "type": "sql", "query": "select 1"}],
    }],
    "slaProperties": [{"property": "latency", "value": 36, "unit": "h"}],
}  # fmt: skip


@pytest.fixture
def delivered(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "rentals.csv").write_text(CSV)
    return tmp_path


def contract(folder: Path, **changes: Any) -> Path:
    path = folder / "bikes.odcs.yaml"
    path.write_text(yaml.safe_dump(CONTRACT | changes))
    return path


def test_a_source_is_made_as_agreed(delivered: Path) -> None:
    tables = agreed.read(contract(delivered))
    assert tables["rentals"].notes == ("rule paid_later is left to a test of dbt's",)
    keys = {"rentals": tables["rentals"].key}
    planned = inspect_source("bikes", str(delivered / "in"), only=("rentals",), keys=keys, agreed=tables)
    space: dict[str, Any] = {}
    exec(source.module(planned), space)
    table = space["SOURCE"].tables[0]
    assert {column.name: column.type for column in table.columns} == {
        "rental": pa.int32(), "bike": pa.int64(), "state": pa.string(), "paid": pa.decimal128(10, 2),
        "mail": pa.string(),
    }  # fmt: skip
    assert (table.description, table.freshness) == ("Every rental.", timedelta(hours=36))
    assert (table.column("rental").description, table.column("rental").nullable) == ("No.", False)
    assert (table.column("bike").minimum, table.column("bike").nullable) == (1, False)
    assert table.column("state").allowed == ("open", "paid", "lost")
    assert (table.column("mail").personal, table.column("mail").maximum) == ("identifier", 200)
    assert agreed.differences(space["SOURCE"], tables) == []


def test_a_sample_that_is_not_as_agreed_is_refused(delivered: Path) -> None:
    tables = agreed.read(contract(delivered))
    (delivered / "in" / "rentals.csv").write_text(CSV.replace("008", "B8"))
    with pytest.raises(GranaryError, match="bike is agreed to be bigint, and 1 of 2 values are not"):
        inspect_source("bikes", str(delivered / "in"), agreed=tables)
    (delivered / "in" / "rentals.csv").write_text(CSV.replace("bike", "cycle"))
    with pytest.raises(GranaryError, match="bike is agreed, and did not come"):
        inspect_source("bikes", str(delivered / "in"), agreed=tables)


def test_every_difference_to_a_source_that_is_there_is_said(delivered: Path) -> None:
    properties = [
        {"name": "receipt_id", "logicalType": "string", "required": True},
        {"name": "tip", "logicalType": "number"},
    ]
    terms = [{"property": "frequency", "value": 3, "unit": "d"}]
    path = contract(delivered, schema=[{"name": "receipts", "properties": properties}], slaProperties=terms)
    found = agreed.differences(SOURCES["till"], agreed.read(path))
    mine = SOURCES["till"].table("receipts")
    assert f"till.receipts: freshness is {mine.freshness}, and 3 days, 0:00:00 is agreed" in found
    assert "till.receipts.receipt_id: type is bigint, and text is agreed" in found
    assert "till.receipts.tip: agreed, and not in the contract" in found
    assert sum("in the contract, and not agreed" in line for line in found) == len(mine.columns) - 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": "Other"}, "it is no DataContract of version 3"),
        ({"apiVersion": "v2.2.2"}, "it is no DataContract of version 3"),
        ({"schema": [{"name": "a"}]}, "it lacks 'properties'"),
        ({"schema": [{"name": "a", "properties": [{"name": "b", "physicalType": "numeric(99,2)"}]}]}, "no column"),
    ],
)
def test_what_is_no_contract_is_refused(delivered: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(GranaryError, match=words):
        agreed.read(contract(delivered, **changes))
