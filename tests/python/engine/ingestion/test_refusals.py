"""The text of a refused row: the value at fault, unless it may be personal."""

from __future__ import annotations

import json
from math import nan
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from granary.cli import main as cli
from granary.dagster import history, loader_assets
from granary.dagster.resources import Warehouse
from granary.load import api as load
from granary.load import freshness
from granary.load.api import load_table
from granary.load.refusals import value
from granary.quarantine import replay
from granary.sources import select
from granary.sources.spec import Column
from granary.sources.units import SourceBatch
from granary.warehouse.errors import GranaryError
from tests.python.support.shop import Shop, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.load.api import LoadResult
    from granary.sources.spec import Table
    from granary.warehouse.settings import Settings

PRICE = Column("price", pa.decimal128(18, 2), "Price.", aliases=("Unit Price",))
EMAIL = Column("email", pa.string(), "Address.", maximum=5, personal="identifier")


@pytest.fixture
def land(warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LoadResult]:
    """Return a function that loads a delivery under a contract."""

    def run(contract: Table, columns: dict[str, Any], fingerprint: str = "1") -> LoadResult:
        shop = Shop()
        shop.put("a.csv", SourceBatch(pa.RecordBatch.from_pydict(columns), text=True, line=2), fingerprint=fingerprint)
        for module in (load, replay, select):
            monkeypatch.setattr(module, "SOURCES", {"shop": shop.source(contract)})
        return load_table(warehouse, "shop", "orders")

    return run


def test_the_value_is_told_wherever_a_refusal_is(land: Callable[..., LoadResult], warehouse: Settings) -> None:
    result = land(table(PRICE), {"id": ["1", "2", "3"], "Unit Price": ["1.2.3", "x" * 60, "1"]})
    long = '"' + "x" * 38 + "…"
    told = (
        'a.csv, line 2: price is not a valid decimal128(18, 2): "1.2.3"',
        f"a.csv, line 3: price is not a valid decimal128(18, 2): {long}",
    )
    assert result.refused == told
    again = CliRunner().invoke(cli.app, ["load", "shop"])
    assert again.exit_code == 0
    listed = CliRunner().invoke(cli.app, ["quarantine", "list"], env={"COLUMNS": "250"}, terminal_width=250)
    assert '"1.2.3"' in listed.stdout
    (first, _) = replay.entries(warehouse)
    assert first.why == 'is not a valid decimal128(18, 2): "1.2.3"'
    (done,) = replay.replay(warehouse, [first], {})
    assert done.refused == ((first.quarantine_id, 'price is not a valid decimal128(18, 2): "1.2.3"'),)


def test_load_prints_the_first_and_the_error_names_one(land: Callable[..., LoadResult]) -> None:
    strict = table(PRICE, max_refused=0.0)
    with pytest.raises(GranaryError, match=r'price is not a valid decimal128\(18, 2\): "12,5"'):
        land(strict, {"id": ["1"], "Unit Price": ["12,5"]})
    land(table(PRICE), {"id": ["1"], "Unit Price": ["0"]})


def test_a_personal_value_is_told_nowhere(
    land: Callable[..., LoadResult], warehouse: Settings, rows: Callable[..., list[tuple[object, ...]]]
) -> None:
    result = land(table(EMAIL), {"id": ["1", "2"], "email": ["anna@example.org", "a@b.c"]})
    assert result.refused == ("a.csv, line 2: email has more than 5 characters (value not shown)",)
    (entry,) = replay.entries(warehouse)
    assert entry.why == "has more than 5 characters (value not shown)"
    shown = CliRunner().invoke(cli.app, ["quarantine", "list"], env={"COLUMNS": "250"}).stdout
    assert "anna" not in shown
    (told,) = json.loads(CliRunner().invoke(cli.app, ["quarantine", "list", "--json"]).stdout)
    assert (told["why"], told["column"], told["line"]) == (entry.why, "email", 2)
    assert "payload" not in told
    with pytest.raises(GranaryError) as raised:
        land(table(EMAIL, max_refused=0.0, contract=2), {"id": ["3"], "email": ["berta@example.org"]}, "2")
    assert "berta" not in str(raised.value)
    assert rows("select count(*) from ops.load_audit where error like '%berta%'") == [(0,)]
    for status in ("all", "failed"):
        for more in ([], ["--json"]):
            shown = CliRunner().invoke(cli.app, ["quarantine", "list", "--status", status, *more]).stdout
            assert "email" in shown
            assert "@example.org" not in shown


def test_a_column_that_no_contract_names_may_be_personal() -> None:
    contract = table(PRICE)
    assert value(contract, "phone", {"phone": "0171 1234"}) == "value not shown"
    assert value(contract, "price", {"price": None}) == ""
    assert value(contract, "price", {"Unit Price": nan}) == '"nan"'
    assert value(contract, "", {"line": "anna;0171"}) == ""


def test_a_personal_value_is_in_no_event_of_dagster(
    warehouse: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shop = Shop()
    declared = shop.source(table(EMAIL))
    for module in (load, loader_assets, freshness):
        monkeypatch.setattr(module, "SOURCES", {"shop": declared})
    asset = loader_assets.loader(declared, declared.table("orders"), loader_assets.partitions(None))
    with dg.DagsterInstance.ephemeral() as instance:
        for name, email in (("a.csv", ["a@b.c", "anna@example.org"]), ("b.csv", ["berta@example.org"])):
            shop.put(
                name,
                SourceBatch(pa.RecordBatch.from_pydict({"id": list("12")[: len(email)], "email": email}), text=True),
            )
            done = dg.materialize(
                [asset], instance=instance, resources={"warehouse": Warehouse()}, raise_on_error=False
            )
            told = [str(event) for event in instance.all_logs(done.run_id)]
            assert any("email has more than 5 characters (value not shown)" in event for event in told), told
            assert [event for event in told if "@example.org" in event] == []
            # As `granary logs --all` prints them.
            words = [line.words for line in history._lines(instance.all_logs(done.run_id), everything=True)]
            assert any("every_row_accounted_for" in one for one in words), words
            assert [one for one in words if "@example.org" in one] == []
    assert "@example.org" not in "".join(capfd.readouterr())
