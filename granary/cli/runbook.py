"""`granary runbook`: the page that leads from a symptom to its repair, on the machine where somebody needs it."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Annotated

import typer

from granary.cli import output

CLONE = Path(__file__).parents[2] / "docs" / "engine" / "runbooks"
INSTALLED = Path(sysconfig.get_path("data")) / "share" / "granary" / "runbooks"
"""Where the pages are in a clone of the engine, and where its package puts them."""


def register(app: typer.Typer) -> None:
    """Put the command into the command."""
    app.command(epilog="Examples: granary runbook · granary runbook source-late")(runbook)


def pages() -> dict[str, Path]:
    """Return the runbooks by name."""
    folder = CLONE if CLONE.is_dir() else INSTALLED
    return {path.stem: path for path in sorted(folder.glob("*.md"))}


def runbook(
    name: Annotated[str | None, typer.Argument(help="As an incident names it. Default: list them.")] = None,
) -> None:
    """Print a runbook: is anybody harmed, what is it, how is it repaired, when is it over."""
    from granary.warehouse.errors import unknown

    found = pages()
    if name is None:
        titles = {one: path.read_text(encoding="utf-8").partition("\n")[0] for one, path in found.items()}
        rows = [(one, title.removeprefix("# ")) for one, title in titles.items()]
        output.table("Runbooks", ("name", "if"), rows)
    elif name in found:
        print(found[name].read_text(encoding="utf-8"), end="")
    else:
        raise unknown("runbook", name, found)
