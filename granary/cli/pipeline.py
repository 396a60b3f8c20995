"""`granary load`, `granary withdraw` and `granary run`: data in, and out again, and through the whole pipeline."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import alerts, log, output, twin
from granary.cli.options import AsJson, business_date, ready, warn_of_settings
from granary.cli.progress import load_progress, running
from granary.warehouse.errors import GranaryError
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from granary.load.batch_stage import LoadResult
    from granary.monitoring.anomalies.look import Look

From = Annotated[
    date | None, typer.Option("--from", metavar="DATE", parser=business_date, help="First business date, YYYY-MM-DD.")
]
To = Annotated[
    date | None, typer.Option("--to", metavar="DATE", parser=business_date, help="Last business date, YYYY-MM-DD.")
]


def register(app: typer.Typer) -> None:
    """Put these commands into the command."""
    app.command(
        epilog="Examples: granary load · granary load shop hr.shifts"
        " · granary load shop --from 2026-03-01 --to 2026-03-31"
    )(load)
    app.command(epilog="Example: granary withdraw shop.orders orders/2026-03-11.parquet")(withdraw)
    app.command(
        epilog="Examples: granary run · granary run --from 2026-03-01 --to 2026-03-31 · granary run --full-refresh"
    )(run)


def load(
    what: Annotated[
        list[str] | None, typer.Argument(metavar="[SOURCE[.TABLE]]...", help="Default: everything.")
    ] = None,
    first: From = None,
    last: To = None,
    full_refresh: Annotated[bool, typer.Option("--full-refresh", help="Read everything again.")] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Read again in the types and the key that the contract has now.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check, load nothing.")] = False,
    accept: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Load this file even if its content has landed under another name."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Load what is new in the sources, each table in one transaction.

    A table or a file that cannot be loaded costs nobody else: the others are loaded, and the exit code is 1. What was
    seen and not loaded is reported with its reason.
    """
    from granary.cli.plugins import reachable
    from granary.load.api import find, load_table
    from granary.monitoring.anomalies.look import look
    from granary.sources.select import select, unusable
    from granary.warehouse.run_ledger import recorded

    window = _window(first, last)
    if rebuild and (window or full_refresh or not what):
        raise typer.BadParameter("--rebuild takes the names of tables, and neither dates nor --full-refresh")
    chosen = select(what or [], usable=True)
    if accept and len(chosen) != 1:
        raise typer.BadParameter("--accept needs the name of one table")
    settings = ready()
    if not chosen and not unusable(what or []):
        raise GranaryError("the project has no source", "ingestion/", "add one: `granary add-source NAME WHERE`")
    warn_of_settings(settings)
    results: list[LoadResult] = []
    looks: list[Look] = []
    failures: list[tuple[str, Exception]] = [("", error) for error in unusable(what or [])]
    name = " ".join(what or []) or "everything"
    with (
        recorded(settings, "load", name, keeps=not dry_run) as run,
        reachable(settings),
        load_progress(quiet=as_json) as progress,
    ):
        for source, table in chosen:
            try:
                results.append(
                    load_table(
                        settings,
                        source,
                        table,
                        window=window,
                        full_refresh=full_refresh,
                        rebuild=rebuild,
                        dry_run=dry_run,
                        run_id=run.run.run_id,
                        progress=progress,
                        accepted=accept or (),
                    )
                )
                if not dry_run:
                    looks.append(look(settings, source, find(source, table)[1]))
            except Exception as error:
                failures.append((f"{source}.{table}", error))
        run.count(sum(one.rows_loaded for one in results), sum(one.bytes for one in results))
        wrong = [str(error) for _, error in failures]
        wrong += [f"{one.unit}: {one.reason}" for result in results for one in result.failed]
        run.problem = wrong[0] if wrong else None
    failed = [{"table": name, "status": "failed", "error": str(failure)} for name, failure in failures]
    output.json([*results, *failed]) if as_json else output.loads(results)
    output.unusual(looks)
    for name, failure in failures:
        log.report(failure, name)
    if failures or any(result.failed for result in results):
        raise typer.Exit(1)


def withdraw(
    table: Annotated[str, typer.Argument(metavar="SOURCE.TABLE")],
    units: Annotated[list[str], typer.Argument(metavar="FILE...", help="As `ops.load_audit` names it.")],
    as_json: AsJson = False,
) -> None:
    """Delete the rows of a file that is gone from its place; `granary run` then updates the marts."""
    from granary.cli.plugins import reachable
    from granary.load.withdrawal import withdraw as take_out
    from granary.sources.select import select

    if len(chosen := select([table])) != 1:
        raise typer.BadParameter(f"{table!r} is not a single table; write SOURCE.TABLE")
    settings = ready()
    with reachable(settings):
        done = take_out(settings, *chosen[0], units)
    if as_json:
        output.json(done)
    else:
        for one in done:
            output.line(f"{table}: {one.unit} withdrawn, {plural(one.rows_deleted, 'row')} deleted.")
        output.line("Next: `granary run` updates the marts.")


def run(
    first: From = None,
    last: To = None,
    full_refresh: Annotated[bool, typer.Option("--full-refresh", help="Load and build everything again.")] = False,
    job: Annotated[str | None, typer.Option(help="A Dagster job instead of the whole pipeline.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole pipeline once through Dagster: load, snapshot, build, test.

    With --from and --to, one run loads and overwrites these business dates (a backfill).
    """
    from granary.cli.plugins import reachable
    from granary.dagster.run import run_job

    window = _window(first, last)
    settings = ready()
    warn_of_settings(settings)
    with reachable(settings), running(quiet=as_json) as on_event:
        outcome = run_job(
            settings,
            job or ("full_refresh" if full_refresh else "everything"),
            window=window,
            full_refresh=full_refresh,
            on_event=on_event,
        )
    twin.follow(settings)
    output.json(outcome) if as_json else output.outcome(outcome)
    alerts.after_a_run(settings)
    if not outcome.success:
        raise typer.Exit(1)


def _window(first: date | None, last: date | None) -> tuple[date, date] | None:
    if first is None and last is None:
        return None
    if first is None or last is None:
        raise typer.BadParameter("--from and --to go together")
    if first > last:
        raise typer.BadParameter("--from is after --to")
    return first, last
