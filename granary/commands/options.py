"""What several commands have: an option, and a warehouse that is up."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from warehouse.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def ready() -> Settings:
    """Return the settings of a warehouse that is up, starting the embedded one if need be."""
    settings = Settings.load()
    start(settings)
    return settings


def tell_settings(settings: Settings) -> None:
    """Say on standard error what is wrong with the file of the sources' settings."""
    from ingestion.select import settings_problems

    for problem in settings_problems(settings):
        print(f"granary: {problem}", file=sys.stderr)


def start(settings: Settings) -> bool:
    """Have the warehouse up, with the raw tables that contracts declare; return whether a server was started."""
    from ingestion.raw import create_missing
    from warehouse import server

    started = server.up(settings)
    create_missing(settings)
    return started
