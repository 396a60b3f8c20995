"""What a run says while it works: how many steps are done, what each took, and how long the rest takes."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from granary.cli.progress import RunView, bars_on
from granary.dbt.run_events import Event

EXPECTED = {"shop.orders": 20.0, "fct_orders": 60.0, "orders_by_day": 120.0}


@pytest.fixture
def view(monkeypatch: pytest.MonkeyPatch) -> RunView:
    """Return the lines of a run that goes into a file, 30 seconds after it began."""
    monkeypatch.setattr(RunView, "seconds", 30.0)
    screen = Console(file=StringIO(), width=160)
    return RunView(bars_on(screen), screen)


def step(view: RunView, name: str, seconds: float, rows: int | None = None) -> None:
    view.update(Event("started", "dbt", name))
    view.update(Event("materialized", "dbt", name, rows=rows, seconds=seconds))


def said(view: RunView) -> list[str]:
    found = view.screen.file
    assert isinstance(found, StringIO)
    return found.getvalue().splitlines()


def test_in_a_file_each_step_is_one_line_with_its_number_rows_and_seconds(view: RunView) -> None:
    view.update(Event("planned", "load", "everything", rows=3))
    step(view, "shop.orders", 20.04, 1200)
    step(view, "fct_orders", 0.0)
    assert [" ".join(line.split()) for line in said(view)] == [
        "30.0 s 1 of 3 materialized shop.orders 1,200 rows 20.0 s",
        "30.0 s 2 of 3 materialized fct_orders",
    ]


def test_the_rest_takes_what_it_took_before_at_the_pace_of_this_run(view: RunView) -> None:
    view.update(Event("planned", "load", "everything", rows=4, expected=EXPECTED))
    assert view.left() == "about 200 s left"
    step(view, "new_model", 1)  # nobody knows what that takes: it counts for nothing
    step(view, "shop.orders", 20)
    assert view.left() == "about 180 s left"  # 20 of 200 s are too little to tell a pace from
    step(view, "fct_orders", 60)
    assert view.left() == "about 45 s left"  # 80 of 200 s took 30 s; 120 s are left


def test_what_an_earlier_run_has_built_is_not_waited_for(view: RunView) -> None:
    view.update(Event("planned", "load", "everything", rows=3, expected=EXPECTED))
    view.update(Event("skipped", "dbt", "1 model", rows=1, detail="built before", expected={"orders_by_day": 0.0}))
    step(view, "shop.orders", 20)
    assert view.progress() == "1 of 2"
    step(view, "fct_orders", 60)
    assert view.left() == "about 0 s left"


def test_without_earlier_runs_each_step_counts_the_same(view: RunView) -> None:
    view.update(Event("planned", "load", "everything", rows=15))
    for number in range(5):
        assert view.left() == ""
        step(view, f"model_{number}", 6)
    assert view.left() == "about 60 s left"
