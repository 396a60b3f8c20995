"""The `granary` command: parses, calls, prints. Exit code 0, 1 (it failed) or 2 (wrong use)."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from granary.cli import (
    alerts,
    anomalies,
    archive,
    archive_raw,
    audit,
    authoring,
    backup,
    capture,
    connect,
    contracts,
    dashboard,
    deliver,
    diff,
    doctor,
    explain,
    export,
    forget,
    guide,
    incidents,
    log,
    marts,
    metric,
    metrics,
    network,
    output,
    pipeline,
    plugins,
    projects,
    publishes,
    quarantine,
    roles,
    runs,
    services,
    smoke,
    sources,
    spark,
    sql,
    streams,
    twin,
    upgrade,
)
from granary.cli.options import AsJson, Port, PortOrNone, existing, ready, start, warn_of_settings
from granary.warehouse.errors import GranaryError, UsageError
from granary.warehouse.project import DISTRIBUTION
from granary.warehouse.settings import Settings

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


pipeline.register(app)


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
    spark,
    alerts,
    incidents,
    guide,
    anomalies,
    archive,
    archive_raw,
    audit,
    publishes,
    dashboard,
    capture,
    connect,
    contracts,
    streams,
    quarantine,
    forget,
    diff,
    doctor,
    explain,
    export,
    deliver,
    runs,
    roles,
    projects,
    upgrade,
    authoring,
    sources,
    backup,
    marts,
    metric,
    metrics,
    sql,
    twin,
):
    topic.register(app)
plugins.register(app)


def _place(settings: Settings) -> str:
    kind = "external" if settings.external else "embedded"
    return f"{kind} Postgres at {settings.host}, database {settings.database}"


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
        log.report(error)
        sys.exit(2 if isinstance(error, UsageError) else 1)
