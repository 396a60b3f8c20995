"""What is wrong with one source costs that source: the others are loaded, and it is named everywhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from granary.cli import health
from granary.cli import main as cli
from granary.dagster.loader_assets import key_of, unusable
from granary.dagster.pending import pending
from granary.load import api as load
from granary.load import declared_tables
from granary.load.api import find, pending_dates
from granary.sources import discovery as sources_package
from granary.sources import select
from granary.sources.discovery import collect
from granary.sources.spec import Column, Source
from granary.warehouse.errors import GranaryError
from tests.python.engine.ingestion.conftest import lines
from tests.python.support.shop import Shop, table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from granary.warehouse.settings import Settings
    from tests.python.engine.ingestion.conftest import Landing

    Rows = Callable[..., list[tuple[object, ...]]]

MODULE = """
from datetime import timedelta
import pyarrow as pa
from granary.sources.spec import Column, Source, Table

TABLE = Table(
    name="t", description="T.", location="t", disposition="append", freshness=timedelta(days=1),
    columns=(Column("a", pa.int64(), "A."),),
)
SOURCE = Source(
    name="good", description="S.", owner="o", kind="csv", settings=(), open_reader=lambda _: None, tables=(TABLE,)
)
"""


@pytest.mark.parametrize(
    ("text", "words", "line"),
    [
        (
            MODULE.replace('disposition="append"', 'disposition="append", max_refusd=0.1'),
            "Table has no setting 'max_refusd'; did you mean 'max_refused'?",
            6,
        ),
        (MODULE.replace("pa.int64()", "pa.decimal128(50, 2)"), "precision should be between 1 and 38", 8),
        (
            MODULE.replace("pa.int64()", "pa.uint64()"),
            "column a: no raw column can hold uint64",
            8,
        ),
        (MODULE.replace("SOURCE = Source(", "SOURCE = Sorce("), "NameError: name 'Sorce' is not defined", 10),
        (MODULE + ")", "it is not Python: unmatched ')'", 13),
        (MODULE.replace("SOURCE =", "OTHER ="), "the module has no SOURCE", None),
        ("SOURCE = None", "the module has no SOURCE", None),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'", 1),
        ("import sys; sys.exit('gone')", "SystemExit: gone", 1),
        (MODULE.replace('"good"', '"other"'), "source 'other' has to be in other.py, and not in bad.py", None),
        (MODULE.replace('"append"', '"appended"'), "disposition is one of replace_unit, merge, replace, append", 6),
    ],
)
def test_a_module_that_cannot_be_used_costs_its_own_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str, line: int | None
) -> None:
    folder = tmp_path / "systems"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "good.py").write_text(MODULE)
    (folder / "bad.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "systems"]:
        monkeypatch.delitem(sys.modules, name)
    found, broken = collect("systems", [str(folder)])
    assert list(found) == ["good"]
    assert words in broken["bad"].what
    assert broken["bad"].where == f"{folder / 'bad.py'}" + (f", line {line}" if line else "")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> GranaryError:
    """Return the error of a source `worse` whose module cannot be used."""
    error = GranaryError("source worse cannot be used: it is not Python", "worse.py, line 1", "correct it")
    for module in (sources_package, load, select, health):
        monkeypatch.setattr(module, "BROKEN", {"worse": error})
    return error


def two(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Declare a source of two tables; the first one's rows are bad."""
    first = table(Column("name", table().columns[0].type, "Number.", minimum=0), max_refused=0.0)
    second = table()
    tables = tuple(_named(one, name) for one, name in ((first, "orders"), (second, "lines")))
    source = Source("shop", "A shop.", "shop", "files", (), lambda _: shop, tables)
    for module in (load, declared_tables, select):
        monkeypatch.setattr(module, "SOURCES", {"shop": source})


def _named(contract: Any, name: str) -> Any:
    from dataclasses import replace  # noqa: PLC0415

    return replace(contract, name=name)


def test_a_table_that_fails_costs_no_other(
    warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch, broken: GranaryError
) -> None:
    shop = Shop()
    two(shop, monkeypatch)
    shop.put("a", {"id": [1], "name": [-1]})
    done = CliRunner().invoke(cli.app, ["load"])
    assert done.exit_code == 1
    assert "granary: source worse cannot be used" in done.stderr
    assert "shop.orders" in done.stderr
    assert "rows break the contract" in done.stderr
    assert rows("select id from raw_shop.lines") == [(1,)]
    seen = health.look(warehouse)
    assert seen.unusable == (str(broken),)
    assert not seen.well
    named = CliRunner().invoke(cli.app, ["load", "worse", "shop.lines", "--json"])
    assert named.exit_code == 1
    assert '"status": "unchanged"' in named.stdout
    assert '"status": "failed"' in named.stdout
    with pytest.raises(GranaryError, match="source worse cannot be used"):
        find("worse", "any")
    with pytest.raises(GranaryError, match="source worse cannot be used"):
        select.select(["worse"])


def test_each_source_without_its_setting_fails_alone(
    warehouse: Settings, landing: Landing, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OFFICE_URL", "EVENTS_LANDING"):
        monkeypatch.delenv(f"GRANARY_{name}", raising=False)
    landing.put("2017-01-02", lines("2017-01-02"))
    done = CliRunner().invoke(cli.app, ["load"])
    assert done.exit_code == 1
    for place, name in (("office.members", "OFFICE_URL"), ("events.card_scans", "EVENTS_LANDING")):
        assert f"granary: {place}: GRANARY_{name} is not set" in done.stderr
    assert rows("select count(*) from raw_till.receipts") == [(3,)]
    landing.put("2017-01-03", lines("2017-01-03"))
    with pytest.raises(GranaryError, match="GRANARY_EVENTS_LANDING is not set"):
        pending_dates(warehouse, "events")
    assert [str(day) for day in pending(warehouse)] == ["2017-01-03"]


def test_a_run_names_a_source_that_cannot_be_used() -> None:
    error = GranaryError("source worse cannot be used: it is not Python", "worse.py, line 1", "correct it")
    done = dg.materialize([unusable("worse", error, key_of("worse", "module"), "load", "worse")], raise_on_error=False)
    assert not done.success
    (failed,) = [event for event in done.all_events if event.is_step_failure]
    assert "source worse cannot be used" in str(failed.event_specific_data)


def test_what_is_no_longer_declared_does_not_count(
    warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop()
    two(shop, monkeypatch)
    shop.put("a", {"id": [1], "name": [-1]})
    CliRunner().invoke(cli.app, ["load"])
    assert not health.look(warehouse).well
    monkeypatch.setattr(select, "SOURCES", {})
    seen = health.look(warehouse)
    assert seen.well
    assert {load["declared"] for load in seen.loads} == {False}
    shown = CliRunner().invoke(cli.app, ["status"])
    assert shown.exit_code == 0
    assert "What is no longer declared in ingestion/ does not count" in shown.stdout
