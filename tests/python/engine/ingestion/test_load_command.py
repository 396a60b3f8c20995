"""`granary load` and `granary withdraw`: what a person reads of files that were not loaded, and the exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from granary.cli import main as cli
from granary.load.api import load_table
from granary.warehouse.errors import GranaryError
from tests.python.engine.ingestion.conftest import lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings
    from tests.python.engine.ingestion.conftest import Landing

    Rows = Callable[..., list[tuple[object, ...]]]
    Granary = Callable[..., Result]


@pytest.fixture
def granary(warehouse: Settings, landing: Landing, monkeypatch: pytest.MonkeyPatch) -> Granary:
    """Return a function that runs the command on this warehouse."""
    del landing
    monkeypatch.setattr(cli, "ready", lambda: warehouse)
    return lambda *arguments: CliRunner().invoke(cli.app, arguments)


def test_a_bad_day_is_told_with_its_reason_and_the_others_land(granary: Granary, landing: Landing, rows: Rows) -> None:
    landing.put("2017-01-02", lines("2017-01-02"))
    landing.put("2017-01-03", lines("2017-01-03").drop_columns(["week"]))
    landing.put("2017-01-04", b"damaged")
    landing.put("2017-01-05", lines("2017-01-05"))
    landing.put("report", lines("2017-01-05"))
    (landing.folder / "receipts_2016.parquet").write_bytes(b"x")
    done = granary("load", "till.receipts")
    assert done.exit_code == 1
    assert rows("select count(*) from raw_till.receipts") == [(6,)]
    assert (
        "granary: till.receipts: receipts/2017-01-03.parquet could not be loaded:"
        " the contract is broken: column week is missing"
    ) in done.stderr
    assert "till.receipts: receipts/2017-01-04.parquet is in quarantine: the file is damaged" in done.stdout
    assert "till.receipts: receipts/report.parquet is in quarantine: the file is not named by" in done.stdout
    assert "till: receipts_2016.parquet is passed over: no table of the source takes it" in done.stdout
    landing.put("2017-01-03", lines("2017-01-03"))
    [told] = json.loads(granary("load", "till.receipts", "--json").stdout)
    assert told["units_loaded"] == ["receipts/2017-01-03.parquet"]
    assert [one["unit"] for one in told["not_loaded"]] == ["receipts_2016.parquet"]
    kept = rows("select kind, name, status, row_count, cause, run_id from ops.runs order by started_at")
    cause = "receipts/2017-01-03.parquet: the contract is broken: column week is missing"
    (*failed, said, first), (*repaired, nothing, second) = kept
    assert (failed, repaired, nothing) == (
        ["load", "till.receipts", "failed", 6], ["load", "till.receipts", "succeeded", 3], None,
    )  # fmt: skip
    assert str(said).startswith(cause)
    assert rows("select run_id, status, row_count from ops.steps order by started_at") == [
        (first, "failed", 6),
        (second, "succeeded", 3),
    ]


def test_a_copy_is_accepted_and_a_gone_file_withdrawn_by_command(
    granary: Granary, landing: Landing, rows: Rows, warehouse: Settings
) -> None:
    count = "select count(*) from raw_till.receipts"
    content = landing.put("2017-01-02", lines("2017-01-02")).read_bytes()
    copy = landing.put("2017-01-03", content)
    done = granary("load", "till.receipts")
    assert (done.exit_code, rows(count)) == (0, [(3,)])
    assert "receipts/2017-01-03.parquet was not loaded: it has the content of" in done.stdout
    assert "--accept FILE" in done.stdout
    assert granary("load", "till", "--accept", "receipts/2017-01-03.parquet").exit_code == 2
    assert granary("load", "till.receipts", "--accept", "receipts/2017-01-03.parquet").exit_code == 0
    assert rows(count) == [(6,)]

    command = ("withdraw", "till.receipts", "receipts/2017-01-03.parquet")
    still = granary(*command)
    assert isinstance(still.exception, GranaryError)
    assert "the source still has receipts/2017-01-03.parquet" in str(still.exception)
    copy.unlink()
    done = granary(*command)
    assert (done.exit_code, rows(count)) == (0, [(3,)])
    assert "receipts/2017-01-03.parquet withdrawn, 3 rows deleted." in done.stdout
    assert granary("withdraw", "till", "x").exit_code == 2
    assert load_table(warehouse, "till", "receipts").status == "unchanged"
    ledger = "select status, rows_deleted from ops.load_audit where run_id = 'withdraw'"
    assert rows(ledger) == [("withdrawn", 3)]


def test_refused_rows_of_a_failed_file_are_listed_and_not_replayed(
    granary: Granary, landing: Landing, rows: Rows, monkeypatch: pytest.MonkeyPatch, warehouse: Settings
) -> None:
    monkeypatch.setattr("granary.cli.quarantine.Settings.load", lambda: warehouse)
    landing.put("2017-01-02", lines("2017-01-02", 3, member_id=[1, None, 3]))
    done = granary("load", "till.receipts")
    assert "1 of 3 rows break the contract; row 2: member_id is null" in done.stderr
    assert "receipts/2017-01-02.parquet" in done.stderr
    [entry] = json.loads(granary("quarantine", "list", "--status", "failed", "--json").stdout)
    assert (entry["row_number"], entry["column"]) == (2, "member_id")
    assert "payload" not in entry
    [whole] = json.loads(granary("quarantine", "show", str(entry["quarantine_id"])).stdout)
    assert whole["payload"]["article_id"] == 2
    replayed = granary("quarantine", "replay", str(entry["quarantine_id"]))
    assert "of a load that failed, of which nothing has landed" in str(replayed.exception)
    assert json.loads(granary("quarantine", "list", "--json").stdout) == []
