"""What several commands have: an option, and a warehouse that is up."""

from __future__ import annotations

from typing import Annotated

import typer

from warehouse.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]


def ready() -> Settings:
    """Return the settings of a warehouse that is up, starting the embedded one if need be."""
    from warehouse import server

    settings = Settings.load()
    server.up(settings)
    return settings
