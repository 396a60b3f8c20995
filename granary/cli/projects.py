"""`granary init`: a new project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from granary.cli import output
from granary.cli.options import FirstDate, TimeZone, this_year


def register(app: typer.Typer) -> None:
    """Put these commands into the command."""
    app.command(
        "init",
        epilog="Examples: granary init shop · granary init shop --time-zone Europe/Berlin --first-date 2023-01-01",
    )(init)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder; its name is the project's.")],
    sample: Annotated[
        bool, typer.Option("--sample/--empty", help="With the sample, from a checkout; or with nothing.")
    ] = False,
    time_zone: TimeZone = "UTC",
    first_date: FirstDate = None,
    engine: Annotated[
        Path | None,
        typer.Option(
            "--engine",
            metavar="PATH",
            envvar="GRANARY_ENGINE",
            help="A wheel or a checkout to install the engine from. Default: where this one came from.",
        ),
    ] = None,
) -> None:
    """Write a new project: a dbt project, ingestion, orchestration, a dashboard, tests, CI, and one git commit.

    It installs the engine that wrote it, in the same version.
    """
    from granary.scaffold import new_project

    if sample:
        new_project.clone_sample(folder)
        output.line(f"{folder}: a clone with the sample. Next: cd {folder} && make demo")
        return
    first = first_date or this_year()
    planned = new_project.plan(folder, time_zone, first, engine)
    committed = new_project.make(planned)
    output.line(f"{planned.folder}: {len(new_project.files(planned))} files{', one commit' if committed else ''}.")
    if not committed:
        output.line("There is no git here, so nothing is committed.")
    output.line(f"Business dates begin and end in {time_zone}; the first one is {first} (vars of dbt_project.yml).")
    output.line("Next:")
    output.line(f"  cd {folder} && make setup")
    output.line("  .venv/bin/granary add-source NAME WHERE")
