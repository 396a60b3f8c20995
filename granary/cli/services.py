"""`granary serve`: everything that runs by itself, kept at work."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import output
from granary.cli.one_service import become, is_healthy
from granary.cli.options import Port, ready
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import require_project
from granary.warehouse.settings import Settings

if TYPE_CHECKING:
    from granary.supervisor.state import ServiceState

BEGIN_SECONDS = 180
PAUSE_SECONDS = 0.5


def register(app: typer.Typer) -> None:
    """Put the command into the command."""
    app.command(
        epilog="Examples: granary serve · granary serve --detach · granary serve --stop"
        " · granary serve --metrics-port 9189"
    )(serve)


def serve(
    port: Port = 3000,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65_535, metavar="PORT", help="Serve Prometheus its metrics too, at this port on 127.0.0.1."
        ),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Go on in the background once all is up.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="End what is served, the warehouse too.")] = False,
    no_warehouse: Annotated[
        bool, typer.Option("--no-warehouse", help="Leave the embedded server to another service; it stays up.")
    ] = False,
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="SERVICE", help="Become this one, for a container's runtime to look after."),
    ] = None,
    ask: Annotated[
        str | None, typer.Option("--ask", metavar="SERVICE", help="Exit with 0 if this one is healthy, else with 1.")
    ] = None,
) -> None:
    """Keep warehouse, Dagster's pages (127.0.0.1:3000), daemon and code server at work: schedules and sensors run.

    What dies is started again; `granary status` shows them. In the foreground it is a service for systemd: Ctrl-C and
    SIGTERM end everything in order. Runs at work are then stopped, and go on where they were when they are run again.
    """
    from granary.supervisor.state import stop as stop_serving

    if sum(map(bool, (stop, detach, only, ask))) > 1:
        raise typer.BadParameter("--stop, --detach, --only and --ask exclude each other")
    if only:
        become(only, port, metrics_port)
    elif ask:
        raise typer.Exit(not is_healthy(ask, port, metrics_port))
    elif stop:
        stopped = stop_serving(Settings.load())
        output.line("All is stopped." if stopped else "Nothing is served.")
    elif detach:
        _in_background(port, metrics_port, no_warehouse)
    else:
        _in_foreground(port, metrics_port, no_warehouse)


def _in_foreground(port: int, metrics_port: int | None, no_warehouse: bool) -> None:
    from granary.backup import base, config
    from granary.cli.plugins import reachable
    from granary.cli.serve import free_port
    from granary.dagster.instance import environment, prepare_instance
    from granary.supervisor.services import services, write_workspace
    from granary.supervisor.state import refuse_second
    from granary.supervisor.supervise import Supervisor

    refuse_second(Settings.load())
    settings = ready()
    if config.load().to and not settings.external:
        base.ready(settings, output.line)
    free_port(port)
    if metrics_port:
        free_port(metrics_port)
    prepare_instance(settings)
    write_workspace(settings)
    output.line(f"Serving at http://127.0.0.1:{port} (Ctrl-C ends it)")
    with reachable(settings):
        kept = services(settings, port, metrics_port, warehouse_too=not no_warehouse)
        Supervisor(settings, kept, environment(settings) | {"GRANARY_SCHEDULES": "running"}, output.line).run()
    output.line("All is stopped.")


def _in_background(port: int, metrics_port: int | None, no_warehouse: bool) -> None:
    from granary.supervisor.state import read, refuse_second

    require_project()
    settings = Settings.load()
    refuse_second(settings)
    log = settings.home / "logs" / "serve.log"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [str(Path(sys.executable).parent / "granary"), "serve", "--port", str(port)]
    command += ["--metrics-port", str(metrics_port)] if metrics_port else []
    command += ["--no-warehouse"] if no_warehouse else []
    with log.open("wb") as words:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=words, stderr=subprocess.STDOUT, start_new_session=True
        )
    until = time.monotonic() + BEGIN_SECONDS
    states: tuple[ServiceState, ...] = ()
    while not states or any(one.status != "up" for one in states):
        if child.poll() is not None or time.monotonic() > until:
            last = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            raise GranaryError(f"not all could be started: {last.removeprefix('granary: ')}", str(log), "see its log")
        time.sleep(PAUSE_SECONDS)
        states = read(settings)
    output.line(f"Serving at http://127.0.0.1:{port}; `granary status` shows it, `granary serve --stop` ends it")
