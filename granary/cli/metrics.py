"""`granary metrics`: what Prometheus reads of the warehouse."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from granary.warehouse.errors import UsageError
from granary.warehouse.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(
        epilog="Examples: granary metrics · granary metrics --serve --port 9189"
        " · granary metrics --textfile /var/lib/node_exporter/granary.prom"
    )(metrics)


def metrics(
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve them at 127.0.0.1, path /metrics, until Ctrl-C.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to serve at; 0 takes a free one.")] = 9189,
    textfile: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write them into a file, for the node exporter.")
    ] = None,
    rules: Annotated[
        bool, typer.Option("--rules", help="Say where the rules for alerts and the dashboard for Grafana are.")
    ] = False,
) -> None:
    """Print what is measured of runs, sources, quality, storage and cost, in Prometheus' text format.

    They are read as the role `monitor`, which may read counts, ages and sizes, and no row of anything.
    """
    from granary.cli import output
    from granary.monitoring import exposition

    if serve + (textfile is not None) + rules > 1:
        raise UsageError("--serve, --textfile and --rules exclude each other", todo="give one of them")
    if rules:
        folder = Path(exposition.__file__).parent
        for path in sorted([*folder.glob("rules/*.yml"), *folder.glob("dashboards/*.json")]):
            output.line(str(path))
        return
    settings = Settings.load()  # a warehouse that is down is a metric; a scrape starts no server
    if textfile is not None:
        exposition.write(settings, textfile)
    elif serve:
        server, thread = exposition.serve(settings, port)
        output.line(f"Metrics at http://127.0.0.1:{server.server_port}/metrics")
        try:
            thread.join()
        except KeyboardInterrupt:
            server.shutdown()
    else:
        print(exposition.text(settings), end="")
