"""`granary demo`: open the sample retailer, let its year pass, run the pipeline, show what came of it."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import output
from granary.cli.options import FirstDate, TimeZone, business_date, ready, this_year
from granary.cli.progress import deliveries, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.dagster.run import RunOutcome
    from granary.warehouse.settings import Settings


def register(app: typer.Typer) -> None:
    """Put these commands into the command."""
    demo = typer.Typer(help="The sample retailer, played back from a real year.", no_args_is_help=True)
    demo.command("run", epilog="Example: granary demo run")(run)
    demo.command("advance", epilog="Example: granary demo advance --to 2017-03-12 && granary run")(advance)
    app.add_typer(demo, name="demo")
    app.command("remove-sample", epilog="Example: granary remove-sample --name shop")(remove_sample)


@contextmanager
def reachable(settings: Settings) -> Iterator[None]:
    """Serve the retailer's API for as long as this is open, if it is open here and no other address is set."""
    from demo import retailer  # noqa: PLC0415 - the command starts at once

    if not retailer.is_open(settings) or os.environ.get(retailer.URL):
        yield
        return
    with retailer.systems(settings):
        yield


def run() -> None:
    """Open the sample retailer, play its whole year, and run the pipeline on it. Again: only what is new."""
    if not play(ready()):
        raise typer.Exit(1)


def advance(
    to: Annotated[date, typer.Option("--to", metavar="DATE", parser=business_date, help="The business date to close.")],
) -> None:
    """Move the sample retailer's clock: its systems deliver all business days up to DATE."""
    move(ready(), to)
    output.line("Next: `granary run` loads and builds what is new.")


def remove_sample(
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="The project's name; else that of the folder.")
    ] = "",
    time_zone: TimeZone = "UTC",
    first_date: FirstDate = None,
) -> None:
    """Take the sample retailer out of this clone, in one commit, and leave an empty project of your own."""
    from demo.removal import remove  # noqa: PLC0415 - the command starts at once
    from granary.warehouse.project import PROJECT  # noqa: PLC0415

    first = first_date or this_year()
    commit = remove(PROJECT, name or PROJECT.name, time_zone, first)
    output.line(f"The sample is out, in commit {commit[:7]}; `git revert {commit[:7]}` brings it back.")
    output.line("The warehouse still has what was loaded of it: `granary down`, and delete .granary to begin empty.")
    output.line("Next: `granary add-source NAME WHERE`")


def move(settings: Settings, to: date) -> None:
    """Open the retailer if need be, and let business go on until the evening of `to`.

    Before its first day the CRM is loaded and kept as history once: rows that change in the year have an earlier
    version only until they do.

    Raises:
        GranaryError: the date is outside the year, before the clock, or something could not be read or written.
    """
    from demo import retailer  # noqa: PLC0415 - the command starts at once
    from demo.clock import OPENING  # noqa: PLC0415

    with deliveries("the retailer opens") as progress:
        retailer.open_for_business(settings, progress=progress)
    if retailer.clock(settings) == OPENING:
        _run(settings, "crm_snapshots", "The CRM as it was before the year")
    with deliveries("the retailer opens") as progress:
        moved = retailer.advance(settings, to, progress=progress)
    output.line(f"The retailer's clock moved from {moved.before} to {moved.after}: {moved.files:,} files delivered.")


def play(settings: Settings) -> bool:
    """Play the whole year and run everything; print a table per layer and what to try next.

    Returns:
        Whether every step and every check succeeded.
    """
    from demo.clock import LAST_DAY  # noqa: PLC0415 - the command starts at once

    began = time.monotonic()
    move(settings, LAST_DAY)
    outcome = _run(settings, "everything", "Load, snapshot, build and test")
    output.outcome(outcome)
    if outcome.success:
        output.line(f"\nDone in {time.monotonic() - began:.0f} s. Try next:")
        output.line('  .venv/bin/granary psql -c "select sum(sales_value) from marts.fct_sales"   a first number')
        output.line(
            "  make ui                                                                   lineage, runs and checks"
        )
        output.line("  docs/analysts.md                                                          thirty questions")
        output.line("The warehouse server keeps running; `.venv/bin/granary down` stops it.")
    return outcome.success


def _run(settings: Settings, job: str, title: str) -> RunOutcome:
    from granary.dagster.run import run_job  # noqa: PLC0415 - the command starts at once

    output.line(title)
    with reachable(settings), running() as on_event:
        return run_job(settings, job, on_event=on_event)
