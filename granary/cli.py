"""The `granary` command: parses, calls, prints. Exit code 0, 1 (it failed) or 2 (wrong use)."""

from __future__ import annotations

import os
import signal
import sys
from datetime import date
from typing import Annotated, NoReturn

import typer

from granary import log, show
from granary.commands import authoring, capture, dashboard, diff, explain, forget, quarantine, roles, streams
from granary.commands.options import AsJson, ready
from warehouse.errors import GranaryError
from warehouse.settings import Settings

app = typer.Typer(
    help="A retail loyalty warehouse: load sources, build marts, look at both.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)
demo = typer.Typer(help="The sample retailer, played back from a real year.", no_args_is_help=True)
app.add_typer(demo, name="demo")

From = Annotated[str | None, typer.Option("--from", metavar="DATE", help="First business date, YYYY-MM-DD.")]
To = Annotated[str | None, typer.Option("--to", metavar="DATE", help="Last business date, YYYY-MM-DD.")]


@app.command(epilog="Example: granary up")
def up() -> None:
    """Start the warehouse server and bring its own tables and roles up to date."""
    from warehouse import server

    settings = Settings.load()
    started = server.up(settings)
    show.line(f"The warehouse is {'started' if started else 'up'}: {_place(settings)}")


@app.command(epilog="Example: granary down")
def down() -> None:
    """Stop the warehouse server; running transactions roll back."""
    from warehouse import server

    stopped = server.down(Settings.load())
    show.line("The warehouse is stopped." if stopped else "The warehouse was not running.")


@app.command(epilog="Example: granary status --json")
def status(as_json: AsJson = False) -> None:
    """Health at a glance: the server, the last load of each table, and the marts.

    Exits with 1 if the server is down or the last load of a table failed.
    """
    from granary.health import look

    health = look(Settings.load())
    show.json(health) if as_json else show.health(health)
    if not health.well:
        raise typer.Exit(1)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": ["--help"]},
    epilog='Example: granary psql -c "select count(*) from marts.fct_sales"',
)
def psql(context: typer.Context) -> None:
    """A SQL shell on the warehouse; every argument goes to psql."""
    from warehouse import server

    raise typer.Exit(server.psql(Settings.load(), *context.args).returncode)


@app.command(
    epilog="Examples: granary load · granary load pos crm.products · granary load pos --from 2017-03-01 --to 2017-03-31"
)
def load(
    what: Annotated[
        list[str] | None, typer.Argument(metavar="[SOURCE[.TABLE]]...", help="Default: everything.")
    ] = None,
    first: From = None,
    last: To = None,
    full_refresh: Annotated[bool, typer.Option("--full-refresh", help="Read everything again.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check, load nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Load what is new in the sources, each table in one transaction."""
    from granary.systems import reachable
    from ingestion.load import load_table
    from ingestion.select import select

    window = _window(first, last)
    chosen = select(what or [])
    settings = ready()
    results = []
    with reachable(settings), show.loading(quiet=as_json) as progress:
        for source, table in chosen:
            results.append(
                load_table(
                    settings,
                    source,
                    table,
                    window=window,
                    full_refresh=full_refresh,
                    dry_run=dry_run,
                    progress=progress,
                )
            )
    show.json(results) if as_json else show.loads(results)


@app.command(
    epilog="Examples: granary run · granary run --from 2017-03-01 --to 2017-03-31 · granary run --full-refresh"
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
    from granary.systems import reachable
    from orchestration.run import run_job

    window = _window(first, last)
    settings = ready()
    with reachable(settings), show.running(quiet=as_json) as on_event:
        outcome = run_job(
            settings,
            job or ("full_refresh" if full_refresh else "everything"),
            window=window,
            full_refresh=full_refresh,
            on_event=on_event,
        )
    show.json(outcome) if as_json else show.outcome(outcome)
    if not outcome.success:
        raise typer.Exit(1)


@app.command(epilog="Example: granary ui --port 3001")
def ui(port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 3000) -> None:
    """Open Dagster at 127.0.0.1:3000: lineage, runs, checks, schedules. Ctrl-C ends it."""
    from granary.pages import serve_ui
    from granary.systems import reachable

    settings = ready()
    with reachable(settings):
        serve_ui(settings, port)


@app.command(epilog="Example: granary docs --port 8080")
def docs(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 only writes the pages.")] = 8080,
) -> None:
    """Write the data documentation and show it at 127.0.0.1:8080: models, how marts join, where columns come from.

    It is files that need nothing else. Where they link to the dashboard and to Dagster is set by GRANARY_DASHBOARD_URL
    and GRANARY_DAGSTER_URL; empty for no link. Ctrl-C ends it.
    """
    from granary.pages import serve_docs

    serve_docs(ready(), port)


@demo.command("run", epilog="Example: granary demo run")
def demo_run() -> None:
    """Open the sample retailer, play its whole year, and run the pipeline on it. Again: only what is new."""
    from granary.sample import play

    if not play(ready()):
        raise typer.Exit(1)


@demo.command("advance", epilog="Example: granary demo advance --to 2017-03-12 && granary run")
def demo_advance(to: Annotated[str, typer.Option("--to", metavar="DATE", help="The business date to close.")]) -> None:
    """Move the sample retailer's clock: its systems deliver all business days up to DATE."""
    from granary.sample import advance

    day = _date(to)
    advance(ready(), day)
    show.line("Next: `granary run` loads and builds what is new.")


for topic in (dashboard, capture, streams, quarantine, forget, diff, explain, roles, authoring):
    topic.register(app)


def _place(settings: Settings) -> str:
    kind = "external" if settings.external else "embedded"
    return f"{kind} Postgres at {settings.host}, database {settings.database}"


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no date; write YYYY-MM-DD") from None


def _window(first: str | None, last: str | None) -> tuple[date, date] | None:
    if first is None and last is None:
        return None
    if first is None or last is None:
        raise typer.BadParameter("--from and --to go together")
    window = _date(first), _date(last)
    if window[0] > window[1]:
        raise typer.BadParameter("--from is after --to")
    return window


def _end(signum: int, frame: object) -> NoReturn:
    """Treat SIGTERM as Ctrl-C, so that both roll back and leave in the same way."""
    raise KeyboardInterrupt


def _not_ours(error: Exception) -> GranaryError | None:
    """Return what to say of an error of the warehouse or of this machine; None of any other, which is our own."""
    from psycopg import DataError, Error, IntegrityError, ProgrammingError
    from psycopg.errors import InsufficientPrivilege

    from warehouse.connection import failure

    if isinstance(error, Error):
        ours = isinstance(error, (DataError, IntegrityError, ProgrammingError))
        return None if ours and not isinstance(error, InsufficientPrivilege) else failure(error, "the warehouse")
    if isinstance(error, MemoryError):
        return GranaryError("this machine has not enough memory for that", todo="end something else, or load less")
    if isinstance(error, OSError) and error.strerror:
        return GranaryError(error.strerror, str(error.filename or "this machine"), "mend that and run this again")
    return None


def main() -> None:
    """Run the command; a failure is one sentence on stderr, its details are in the log."""
    signal.signal(signal.SIGTERM, _end)
    # A shell starts background jobs with SIGINT ignored, and children would inherit that: Dagster could not be stopped.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        app(standalone_mode=True)
    except GranaryError as error:
        log.failure(error)
        print(f"granary: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        where = log.failure(error)
        if plain := _not_ours(error):
            print(f"granary: {plain}; details in {where}", file=sys.stderr)
            sys.exit(1)
        print(f"granary: a defect in Granary: {type(error).__name__}: {error}; details in {where}", file=sys.stderr)
        sys.exit(1)
