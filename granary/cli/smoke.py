"""`granary smoke`: whether a release does what people and services need."""

from __future__ import annotations

from typing import Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson
from granary.warehouse.project import require_project
from granary.warehouse.settings import Settings


def register(app: typer.Typer) -> None:
    """Put the command into the command."""
    app.command(epilog="Examples: granary smoke · granary smoke --served --json")(smoke)


def smoke(
    served: Annotated[bool, typer.Option("--served", help="Also wait until every service is up.")] = False,
    as_json: AsJson = False,
) -> None:
    """Try what a release has to do: an analyst reads each mart, Dagster finds the definitions, services are up.

    It changes nothing. Exits with 1 if something does not work.
    """
    from granary.supervisor.smoke import tries

    require_project()
    tried = tries(Settings.load(), served=served)
    if as_json:
        output.json(tried)
    else:
        for one in tried:
            output.line(f"{one.name}: {one.problem or 'works'} ({one.seconds:.1f} s)")
    if any(one.problem for one in tried):
        raise typer.Exit(1)
