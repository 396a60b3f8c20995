"""Every table that is printed can be read at 80 columns and at 60: nothing is cut, and ids can be copied."""

from __future__ import annotations

import ast
import re
from datetime import date, datetime, timezone
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from granary.cli import forget, output, quarantine, runs, streams
from granary.cli.health import Health
from granary.dagster.history import Run
from granary.dagster.run import AssetOutcome, RunOutcome
from granary.load.api import LoadResult
from granary.sources.units import NotLoaded
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable

AT = datetime(2026, 11, 29, 15, 4, 5, tzinfo=timezone.utc)
LONG = "transactions/2017-03-12.parquet, row 1469307 of a file"


def loads(_: pytest.MonkeyPatch) -> None:
    tables = [("pos", "transactions", 1_469_307, 365), ("pos", "promotions", 20_940_529, 53)]
    output.loads(
        [
            LoadResult(
                source, table, "loaded", units, rows, rows - 17, 17, 0, 0, 123.4, None, None, (1,), (),
                rows_forgotten=4, not_loaded=(NotLoaded(LONG, "unreadable", "the file is damaged"),),
            )
            for source, table, rows, units in tables
        ]
    )  # fmt: skip


def health(_: pytest.MonkeyPatch) -> None:
    load = {
        "source": "marketing", "table_name": "recipients", "status": "failed", "finished_at": AT, "quarantined": 17,
        "rows_today": 20_940_529, "forgotten": 3, "error": "the service does not answer (http://127.0.0.1:8765/v1)",
        "is_late": True, "declared": True, "fresh_at": AT, "late": "marketing.recipients: nothing new for 48 hours",
    }  # fmt: skip
    layer = {"layer": "intermediate", "relations": 24, "rows_about": 20_940_529, "bytes": 2_342_000_000}
    output.health(Health(True, "embedded", (load,), (layer,)))


def outcome(_: pytest.MonkeyPatch) -> None:
    assets = tuple(AssetOutcome(f"t{n}", "intermediate", 20_940_529, 1234.5) for n in range(24))
    output.outcome(
        RunOutcome(
            True, "a790fb1a-e60c", "weekly_promotions", 1234.5, (date(2017, 1, 1),) * 2, assets, 211, 0,
            {"intermediate": 148}, (), (), Path("run.log"),
        )
    )  # fmt: skip


def refused(patch: pytest.MonkeyPatch) -> None:
    entry = SimpleNamespace(
        quarantine_id=1234567, source="pos", table="transactions", place=LONG, column="transaction_timestamp",
        why="is not a valid decimal128(18, 2): '[1,000.50]'", status="replayed", first_seen_at=AT,
    )  # fmt: skip
    patch.setattr("granary.quarantine.replay.entries", lambda *_, **__: [entry])
    quarantine.list_entries(None, "all", 100, as_json=False)


def lags(_: pytest.MonkeyPatch) -> None:
    lag = SimpleNamespace(
        partition="coupon_redemptions[0]", position="1234567890123", messages=1_469_307, seconds=86400
    )
    streams._table([lag])  # type: ignore[list-item]


def erased(_: pytest.MonkeyPatch) -> None:
    total = SimpleNamespace(
        relation="marts.fct_coupon_redemptions", month="2017-03-01", rows=1_469_307, measures={"sales_value": "123.45"}
    )
    forget._print_totals([total], "To be erased")  # type: ignore[list-item]


def ran(patch: pytest.MonkeyPatch) -> None:
    run = Run("a790fb1a-e60c", "weekly_promotions", "FAILURE", "", AT, 1234.5, {"pos.promotions": 20_940_529})
    patch.setattr("granary.dagster.history.runs", lambda *_: [run])
    patch.setattr("granary.cli.runs.existing", lambda: None)
    runs.runs(20, as_json=False)


def bench(_: pytest.MonkeyPatch) -> None:
    columns = (
        "rows",
        "count",
        "load, s",
        "COPY, s",
        "ratio",
        "peak MB",
        "dlt, s",
        "dlt / load",
        "sling, s",
        "sling / load",
    )
    output.table(
        "Loading into raw",
        columns,
        [("Parquet, promotions", 20_940_529, 9.0, 8.7, "1.03", 412, 13.9, "1.5", 63.0, "7.0")],
    )


PRINTED: dict[Callable[[pytest.MonkeyPatch], None], tuple[str, ...]] = {
    loads: ("20,940,512", "pos.transactions", "1,469,307", "365", LONG),
    health: ("marketing.recipients", "20,940,529", "does not answer", "2026-11-29 15:04:05", "2,342.0"),
    outcome: ("weekly_promotions", "502,572,696", "148", "29,628.0"),
    refused: ("1234567", "transaction_timestamp", "'[1,000.50]'", "replayed"),
    lags: ("coupon_redemptions[0]", "1234567890123", "1,469,307"),
    erased: ("marts.fct_coupon_redemptions", "2017-03", "sales_value 123.45"),
    ran: ("a790fb1a", "failure", "1,234 s", "pos.promotions 20,940,529"),
    bench: ("Parquet, promotions", "1.03", "sling / load", "63.0"),
}  # fmt: skip


@pytest.mark.parametrize("width", [200, 80, 60, 40])
@pytest.mark.parametrize("printed", PRINTED, ids=lambda one: one.__name__)
def test_a_table_is_readable(
    printed: Callable[[pytest.MonkeyPatch], None], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = StringIO()
    monkeypatch.setattr(output, "console", Console(file=stream, width=width, highlight=False))
    printed(monkeypatch)
    said = stream.getvalue()
    words = " ".join(said.split())
    for value in PRINTED[printed]:
        assert value in words, said
    assert "…" not in said
    drawn = [line for line in said.splitlines() if re.match(r"  |[┃│┏┡└]", line)]
    assert drawn
    assert [line for line in drawn if len(line) > width and " " in line.strip()] == []


def test_a_number_that_names_something_is_printed_as_it_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = StringIO()
    monkeypatch.setattr(output, "console", Console(file=stream, width=60))
    refused(monkeypatch)
    assert "\nid 1234567\n" in stream.getvalue()


def test_one_function_prints_all_tables() -> None:
    """None draws its own, so that what holds above holds for all."""
    drawing = {
        str(path.relative_to(PROJECT))
        for folder in ("granary", "bench", "orchestration", "ingestion", "dashboards", "demo")
        for path in (PROJECT / folder).rglob("*.py")
        if any(_imports_table(node) for node in ast.walk(ast.parse(path.read_text())))
    }
    assert drawing == {"granary/cli/tables.py"}


def _imports_table(node: Any) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "rich.table"
