"""The `granary` command: parses, calls, prints. Exit code 0, 1 (it failed) or 2 (wrong use)."""

from __future__ import annotations

import gc
import os
import signal
import sys
from datetime import date
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from granary.cli import (
    alerts,
    anomalies,
    archive,
    audit,
    authoring,
    backup,
    capture,
    contracts,
    dashboard,
    diff,
    doctor,
    explain,
    export,
    forget,
    incidents,
    log,
    marts,
    metric,
    metrics,
    network,
    output,
    plugins,
    projects,
    publishes,
    quarantine,
    roles,
    runs,
    services,
    smoke,
    streams,
    upgrade,
)
from granary.cli.options import AsJson, Port, PortOrNone, business_date, existing, ready, start, warn_of_settings
from granary.warehouse.errors import GranaryError, UsageError
from granary.warehouse.project import DISTRIBUTION
from granary.warehouse.settings import Settings

if TYPE_CHECKING:
    from granary.load.batch_stage import LoadResult
    from granary.monitoring.anomalies.look import Look

app = typer.Typer(
    help="An ELT warehouse: load sources, build marts with dbt, look at both.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        output.line(f"granary {version(DISTRIBUTION)}")
        raise typer.Exit


From = Annotated[
    date | None, typer.Option("--from", metavar="DATE", parser=business_date, help="First business date, YYYY-MM-DD.")
]
To = Annotated[
    date | None, typer.Option("--to", metavar="DATE", parser=business_date, help="Last business date, YYYY-MM-DD.")
]


@app.callback()
def granary(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """An ELT warehouse: load sources, build marts with dbt, look at both."""


@app.command(
    epilog="Examples: granary up · granary up --listen 0.0.0.0:5432 --from 10.1.0.0/16 · granary up --listen off"
)
def up(
    listen: network.Listen = None,
    clients: network.Clients = None,
    certificate: network.Certificate = None,
    key: network.Key = None,
    plain_text: network.PlainText = False,
) -> None:
    """Start the warehouse server and bring its own tables and roles up to date; raw tables are there, if empty."""
    if not listen and (clients or certificate or key or plain_text):
        raise UsageError("these options go with --listen", todo="say where: --listen HOST:PORT")
    settings = Settings.load()
    if listen:
        network.open_to(settings, listen, clients or [], certificate, key, plain_text=plain_text)
    started = start(settings)
    output.line(f"The warehouse is {'started' if started else 'up'}: {_place(settings)}")
    network.describe(settings)


@app.command(epilog="Example: granary down")
def down() -> None:
    """Stop the warehouse server; running transactions roll back."""
    from granary.dbt.metric_process import SOCKET
    from granary.supervisor.state import keeps_warehouse
    from granary.warehouse import server

    settings = Settings.load()
    if keeps_warehouse(settings):
        raise GranaryError(
            "the warehouse is kept up by `granary serve`", str(settings.home), "`granary serve --stop` stops both"
        )
    stopped = server.down(settings)
    (settings.home / SOCKET).unlink(missing_ok=True)  # without it the process that answers for metrics ends
    output.line("The warehouse is stopped." if stopped else "The warehouse was not running.")


@app.command(epilog="Examples: granary status --json · granary status --storage")
def status(
    storage: Annotated[bool, typer.Option("--storage", help="What takes how much of the disk, instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """Health at a glance: the server, the last load of each table, and the marts.

    Exits with 1 if the server or a service of `granary serve` is down, a table's last load failed, a source is silent
    for longer than agreed, dbt's last run failed, or something that was built is held or not published.
    """
    if storage:
        doctor.storage(existing(), as_json=as_json)
        return
    from granary.cli.health import look

    settings = Settings.load()
    warn_of_settings(settings)
    health = look(settings)
    output.json(health) if as_json else output.health(health)
    if not health.well:
        raise typer.Exit(1)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": ["--help"]},
    epilog='Example: granary psql -c "select count(*) from marts.fct_orders"',
)
def psql(context: typer.Context) -> None:
    """A SQL shell on the warehouse; every argument goes to psql."""
    from granary.warehouse.psql import psql as shell

    raise typer.Exit(shell(existing(), *context.args).returncode)


@app.command(
    epilog="Examples: granary load · granary load shop hr.shifts · granary load shop --from 2026-03-01 --to 2026-03-31"
)
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
        output.load_progress(quiet=as_json) as progress,
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
        report(failure, name)
    if failures or any(result.failed for result in results):
        raise typer.Exit(1)


@app.command(epilog="Example: granary withdraw shop.orders orders/2026-03-11.parquet")
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
            output.line(f"{table}: {one.unit} withdrawn, {one.rows_deleted:,} rows deleted.")
        output.line("Next: `granary run` updates the marts.")


@app.command(
    epilog="Examples: granary run · granary run --from 2026-03-01 --to 2026-03-31 · granary run --full-refresh"
)
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
    with reachable(settings), output.running(quiet=as_json) as on_event:
        outcome = run_job(
            settings,
            job or ("full_refresh" if full_refresh else "everything"),
            window=window,
            full_refresh=full_refresh,
            on_event=on_event,
        )
    output.json(outcome) if as_json else output.outcome(outcome)
    alerts.after_a_run(settings)
    if not outcome.success:
        raise typer.Exit(1)


@app.command(epilog="Example: granary ui --port 3001")
def ui(port: Port = 3000) -> None:
    """Open Dagster at 127.0.0.1:3000: lineage, runs, checks, schedules. Ctrl-C ends it."""
    from granary.cli.plugins import reachable
    from granary.cli.serve import serve_ui

    settings = ready()
    with reachable(settings):
        serve_ui(settings, port)


@app.command(epilog="Example: granary docs --port 8080")
def docs(port: PortOrNone = 8080) -> None:
    """Write the data documentation and show it at 127.0.0.1:8080: models, how marts join, where columns come from.

    It is files that need nothing else. Where they link to the dashboard and to Dagster is set by GRANARY_DASHBOARD_URL
    and GRANARY_DAGSTER_URL; empty for no link. Ctrl-C ends it.
    """
    from granary.cli.serve import serve_docs

    serve_docs(ready(), port)


for topic in (
    services,
    smoke,
    alerts,
    incidents,
    anomalies,
    archive,
    audit,
    publishes,
    dashboard,
    capture,
    contracts,
    streams,
    quarantine,
    forget,
    diff,
    doctor,
    explain,
    export,
    runs,
    roles,
    projects,
    upgrade,
    authoring,
    backup,
    marts,
    metric,
    metrics,
):
    topic.register(app)
plugins.register(app)


def _place(settings: Settings) -> str:
    kind = "external" if settings.external else "embedded"
    return f"{kind} Postgres at {settings.host}, database {settings.database}"


def _window(first: date | None, last: date | None) -> tuple[date, date] | None:
    if first is None and last is None:
        return None
    if first is None or last is None:
        raise typer.BadParameter("--from and --to go together")
    if first > last:
        raise typer.BadParameter("--from is after --to")
    return first, last


def _end(signum: int, frame: object) -> NoReturn:
    """Treat SIGTERM as Ctrl-C, so that both roll back and leave in the same way."""
    raise KeyboardInterrupt


def main() -> None:
    """Run the command; a failure is one sentence on stderr, its details are in the log."""
    # Imports make half a million objects that stay: to look for garbage among them took a sixth of a run's start.
    gc.set_threshold(50_000)
    signal.signal(signal.SIGTERM, _end)
    # A shell starts background jobs with SIGINT ignored, and children would inherit that: Dagster could not be stopped.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        app(standalone_mode=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        report(error)
        sys.exit(2 if isinstance(error, UsageError) else 1)


def report(error: Exception, place: str = "") -> None:
    """Say on standard error what went wrong, in one line, and put its details into the log; `place` is a table."""
    from granary.warehouse.environment_errors import plainly

    where = log.failure(error)
    if known := plainly(error):
        mine = place and place not in str(known)
        print(f"granary: {place + ': ' if mine else ''}{known}", file=sys.stderr)
    else:
        at = f"{place}: " if place else ""
        print(f"granary: {at}a defect in Granary: {type(error).__name__}: {error}; details in {where}", file=sys.stderr)
