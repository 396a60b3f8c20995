"""What the command and Dagster say and draw of what is unusual."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from granary.cli.main import app
from granary.dagster.anomaly_check import expected_check
from granary.monitoring.anomalies import look
from granary.monitoring.anomalies.look import Look
from tests.python.engine.anomalies.conftest import ORDERS, TODAY, first, orders

if TYPE_CHECKING:
    from pathlib import Path

    from tests.python.engine.anomalies.conftest import Watched


def test_the_command_and_dagster_say_and_draw_what_is_unusual(shop: Watched, tmp_path: Path) -> None:
    run = CliRunner()
    shop.look()
    assert "Nothing is unusual." in run.invoke(app, ["anomalies", "list"]).output
    found = shop.deliver(TODAY, first(0.5, orders(TODAY)))
    assert found[0] in run.invoke(app, ["anomalies", "list", "shop.orders"]).output
    (listed, *_) = json.loads(run.invoke(app, ["anomalies", "list", "--json"]).output)
    assert (listed["metric"], listed["value"], listed["day"]) == ("rows", 100, "2026-03-06")
    drawn = run.invoke(app, ["anomalies", "show", "shop.orders"]).output
    assert "rows, 2026-01-06 to 2026-03-06; last 100, expected" in drawn
    assert "▼" in drawn
    page = tmp_path / "orders.html"
    run.invoke(app, ["anomalies", "show", "shop.orders", "--html", str(page)])
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == text.count("<figure") > 20
    assert "<circle" in text
    assert run.invoke(app, ["anomalies", "show", "shop.orders", "--column", "colour"]).exit_code == 2

    check = expected_check(shop.settings, "shop", ORDERS, look.look(shop.settings, "shop", ORDERS))
    assert (check.passed, check.severity.value) == (False, "WARN")
    assert found[0] in str(check.description)
    assert "data:image/svg+xml;base64," in str(check.metadata["rows"].value)
    quiet = expected_check(shop.settings, "shop", ORDERS, Look(quiet=5))
    assert (quiet.passed, quiet.description) == (True, "quiet: 5 more days have to come until something is expected")
