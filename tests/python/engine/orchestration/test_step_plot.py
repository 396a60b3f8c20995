"""When dbt built what in a run, as its page shows it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from granary.dagster.step_plot import Span, plot, span

BEGAN = datetime(2026, 3, 12, 8, 0, 0, tzinfo=timezone.utc)


def at(begin: float, end: float, name: str, *, well: bool = True) -> Span:
    return Span(name, "marts", BEGAN + timedelta(seconds=begin), BEGAN + timedelta(seconds=end), well)


def test_a_bar_stands_where_a_node_was_at_work() -> None:
    shown = plot([at(5, 10, "late"), at(0, 10, "whole"), at(0, 2.5, "early", well=False)])
    rows = [tuple(record.data.values()) for record in shown.records]
    assert rows == [
        ("08:00:00", "2.5", "early", "marts", "✗" * 10 + "·" * 30),
        ("08:00:00", "10.0", "whole", "marts", "█" * 40),
        ("08:00:05", "5.0", "late", "marts", "·" * 19 + "█" * 20 + "·"),
    ]


def test_a_moment_is_still_seen() -> None:
    (record,) = plot([at(0, 0, "quick")]).records
    assert record.data["when"] == "█" + "·" * 39


def test_dbt_tells_when_a_node_worked() -> None:
    info = {"node_started_at": "2026-03-12T08:00:00.250000", "node_finished_at": "2026-03-12T08:00:01.750000Z"}
    made = span(info | {"node_finished_at": "2026-03-12T08:00:01.750000", "node_status": "success"}, "m", "core")
    assert made is not None
    assert (made.seconds, made.well) == (1.5, True)
    assert span({"node_started_at": "", "node_finished_at": ""}, "left out", "core") is None
