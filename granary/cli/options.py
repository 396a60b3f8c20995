"""What several commands have: an option, and a warehouse that is up."""

from __future__ import annotations

import sys
from datetime import date, datetime, timezone
from typing import Annotated

import typer

from granary.warehouse.errors import GranaryError
from granary.warehouse.project import require_project
from granary.warehouse.settings import Settings


def business_date(text: str) -> date:
    """Return the date that a person typed.

    Raises:
        typer.BadParameter: it is none.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a date; write YYYY-MM-DD") from None


Port = Annotated[int, typer.Option(min=1, max=65_535, help="Port on 127.0.0.1.")]
PortOrNone = Annotated[int, typer.Option(min=0, max=65_535, help="Port on 127.0.0.1; 0 only writes the pages.")]

TimeZone = Annotated[str, typer.Option("--time-zone", metavar="ZONE", help="Where a business date begins and ends.")]
FirstDate = Annotated[
    date | None,
    typer.Option(
        "--first-date",
        metavar="DATE",
        parser=business_date,
        help="The first business date of any source. Default: January 1 of this year.",
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def this_year() -> date:
    """Return the first day of this year: the first business date of a project whose owner names none."""
    return date(datetime.now(timezone.utc).year, 1, 1)


def existing() -> Settings:
    """Return the settings of a warehouse that is there, starting its server if need be, for commands that only look.

    Raises:
        GranaryError: none was ever made in this home.
    """
    require_project()
    settings = Settings.load()
    from granary.warehouse import server

    if server.running(settings) or settings.external:
        return settings
    if not (settings.home / "data" / "PG_VERSION").exists():
        raise GranaryError("there is no warehouse", str(settings.home), "`granary up` makes one")
    return ready()


def ready() -> Settings:
    """Return the settings of a warehouse that is up, starting the embedded one if need be."""
    settings = Settings.load()
    start(settings)
    return settings


def warn_of_settings(settings: Settings) -> None:
    """Say on standard error what is wrong with the file of the sources' settings."""
    from granary.sources.select import settings_problems

    for problem in settings_problems(settings):
        print(f"granary: {problem}", file=sys.stderr)


def start(settings: Settings) -> bool:
    """Have the warehouse up, with the raw tables that contracts declare; return whether a server was started."""
    from granary.load.declared_tables import create_missing, keep_objectives
    from granary.warehouse import server

    require_project()
    started = server.up(settings)
    create_missing(settings)
    keep_objectives(settings)
    return started
