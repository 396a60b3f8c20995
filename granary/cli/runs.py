"""`granary runs` and `granary logs`: what ran, what came of it, and what it said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson, existing

if TYPE_CHECKING:
    from granary.dagster.history import Run

NAMED = 3
"""Tables that a line names before it counts the rest."""


def register(app: typer.Typer) -> None:
    """Put these commands into the command."""
    app.command(epilog="Examples: granary runs · granary runs --limit 50 --json")(runs)
    app.command(epilog="Examples: granary logs · granary logs a790fb1a · granary logs a790fb1a --all --json")(logs)


def runs(
    limit: Annotated[int, typer.Option(help="How many runs to list at most.", min=1)] = 20,
    as_json: AsJson = False,
) -> None:
    """List the runs, the newest first: how each ended, when, how long it took, and what it loaded."""
    from granary.dagster import history

    found = history.runs(existing(), limit)
    if as_json:
        output.json(found)
    elif not found:
        output.line("Nothing has run yet: `granary run`.")
    else:
        rows = [
            (
                run.run_id[:8],
                run.job,
                run.state.lower(),
                f"{run.started_at:%Y-%m-%d %H:%M}" if run.started_at else "",
                "" if run.seconds is None else f"{run.seconds:,.0f} s",
                _changed(run),
            )
            for run in found
        ]
        output.table("Runs (UTC)", ("run", "job", "state", "started", "took", "loaded"), rows)


def logs(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="As `granary runs` shows it. Default: the last failure.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what Dagster says of its own steps.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what a run said: by default the last one that failed, or if none did, the last."""
    from dataclasses import asdict

    from granary.dagster import history

    run_id, lines = history.log(existing(), run, everything=everything)
    if as_json:
        output.json({"run_id": run_id, "lines": [asdict(line) for line in lines]})
        return
    output.line(f"Run {run_id}")
    for line in lines:
        step = f"{line.step}: " if line.step else ""
        output.line(f"{line.at:%H:%M:%S} {line.level:<7} {step}{line.words}")


def _changed(run: Run) -> str:
    parts = [f"{table} {rows:,}" for table, rows in run.changed.items()]
    rest = len(parts) - NAMED
    return ", ".join(parts[:NAMED]) + (f" and {rest} more" if rest > 0 else "") if parts else "nothing new"
