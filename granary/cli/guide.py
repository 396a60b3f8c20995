"""`granary guide`: the pages about the engine and its runbooks, on the machine where somebody needs them."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Annotated

import typer

from granary.cli import output

CLONE = Path(__file__).parents[2] / "docs" / "engine"
INSTALLED = Path(sysconfig.get_path("data")) / "share" / "granary" / "guide"
"""Where the pages are in a clone of the engine, and where its package puts them."""


def register(app: typer.Typer) -> None:
    """Put the command into the command."""
    app.command(epilog="Examples: granary guide · granary guide access · granary guide runbooks/source-late")(guide)


def pages() -> dict[str, Path]:
    """Return the pages by name, such as `access`, `sources/files` and `runbooks/source-late`."""
    folder = CLONE if CLONE.is_dir() else INSTALLED
    files = [*folder.glob("*.md"), *folder.glob("sources/*.md"), *folder.glob("runbooks/*.md")]
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(files)}


def guide(
    name: Annotated[str | None, typer.Argument(help="As a message names it. Default: list them.")] = None,
) -> None:
    """Print a page about the engine, or a runbook: from a symptom to its repair."""
    from granary.warehouse.errors import unknown

    found = pages()
    if name is None:
        titles = {one: path.read_text(encoding="utf-8").partition("\n")[0] for one, path in found.items()}
        output.table("Pages", ("name", "title"), [(one, title.removeprefix("# ")) for one, title in titles.items()])
    elif name in found:
        print(found[name].read_text(encoding="utf-8"), end="")
    else:
        raise unknown("page", name, found)
