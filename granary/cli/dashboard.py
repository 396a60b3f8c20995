"""`granary dashboard`: pages of figures and charts, made from the marts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from granary.cli import output, progress
from granary.cli.options import Port, existing
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT


def register(app: typer.Typer) -> None:
    """Put this command into the command."""
    app.command(
        "dashboard",
        epilog="Examples: granary dashboard · granary dashboard --port 8091 · granary dashboard --export ~/pages",
    )(dashboard)


def dashboard(
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="DIR", help="Write the pages into this folder, and do not serve them."),
    ] = None,
    port: Port = 8090,
    docs: Annotated[
        str | None,
        typer.Option(envvar="GRANARY_DOCS_URL", help="Where the pages link to the documentation; empty for no link."),
    ] = None,
    dagster: Annotated[
        str | None, typer.Option(envvar="GRANARY_DAGSTER_URL", help="Where they link to Dagster; empty for no link.")
    ] = None,
) -> None:
    """Show the dashboard at 127.0.0.1:8090: the pages of dashboards/.

    The pages are files that need nothing else, as the marts are now. They link to the documentation and to Dagster on
    this machine; exported pages do so only if you say where these are. Ctrl-C ends it.
    """
    from granary.cli.serve import serve
    from granary.dagster.links import DAGSTER, DOCS, Links

    try:
        from granary.pages.dashboard.export import names, steps, write
        from granary.pages.dashboard.html import SCRIPT
    except ModuleNotFoundError as error:
        raise GranaryError(f"the dashboard needs {error.name}", todo="install it: `make setup`") from None
    links = Links("" if export else DOCS, "" if export else DAGSTER)
    links = replace(links, **{name: one for name, one in (("docs", docs), ("dagster", dagster)) if one is not None})
    settings = existing()
    folder = export.expanduser() if export else PROJECT / "target" / "dashboard"
    with progress.counting(steps()) as report:
        written = write(settings, folder, links, report)
    size = sum(path.stat().st_size for path in (*written, folder / SCRIPT)) / 1e6
    output.line(f"Written: {len(written)} pages, {size:.1f} MB: {written[0]}")
    if not export:
        serve(folder, names(), port)
