"""The main job on the sample retailer: open it, let its year pass, run the pipeline, show what came of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from granary import show
from granary.systems import reachable, retailer
from orchestration.run import RunOutcome, run_job

if TYPE_CHECKING:
    from datetime import date

    from warehouse.settings import Settings


def advance(settings: Settings, to: date) -> None:
    """Open the retailer if need be, and let business go on until the evening of `to`.

    Before its first day the CRM is loaded and kept as history once: rows that change in the year have an earlier
    version only until they do.

    Raises:
        GranaryError: the date is outside the year, before the clock, or something could not be read or written.
    """
    shop = retailer()
    with show.steps() as progress:
        shop.open_for_business(settings, progress=progress)
    if shop.clock(settings) == shop.calendar.OPENING:
        _run(settings, "crm_snapshots", "The CRM as it was before the year")
    with show.steps() as progress:
        moved = shop.advance(settings, to, progress=progress)
    show.line(f"The retailer's clock moved from {moved.before} to {moved.after}: {moved.files:,} files delivered.")


def play(settings: Settings) -> bool:
    """Play the whole year and run everything; print a table per layer and what to try next.

    Returns:
        Whether every step and every check succeeded.
    """
    began = time.monotonic()
    advance(settings, retailer().calendar.LAST_DAY)
    outcome = _run(settings, "everything", "Load, snapshot, build and test")
    show.outcome(outcome)
    if outcome.success:
        show.line(f"\nDone in {time.monotonic() - began:.0f} s. Try next:")
        show.line('  .venv/bin/granary psql -c "select sum(sales_value) from marts.fct_sales"   a first number')
        show.line(
            "  make ui                                                                   lineage, runs and checks"
        )
        show.line("  docs/analysts.md                                                          thirty questions")
        show.line("The warehouse server keeps running; `.venv/bin/granary down` stops it.")
    return outcome.success


def _run(settings: Settings, job: str, title: str) -> RunOutcome:
    show.line(title)
    with reachable(settings), show.running() as on_event:
        return run_job(settings, job, on_event=on_event)
