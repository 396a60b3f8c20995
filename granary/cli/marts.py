"""`granary add-mart`: from a model to a table that people read."""

from __future__ import annotations

from typing import Annotated

import typer

from granary.cli import output
from granary.warehouse.project import PROJECT
from granary.warehouse.settings import Settings
from granary.warehouse.words import plural


def register(app: typer.Typer) -> None:
    """Put this command into the command."""
    app.command(
        "add-mart",
        epilog="Examples: granary add-mart fct_orders --from stg_shop__orders --grain order_id ·"
        " granary add-mart daily_orders --from stg_shop__orders --grain business_date,channel --date ordered_at",
    )(add_mart)


def add_mart(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new mart: lower case, such as fct_orders.")],
    model: Annotated[str, typer.Option("--from", metavar="MODEL", help="The model it is made from.")],
    grain: Annotated[
        str,
        typer.Option(
            "--grain", metavar="COLUMN[,COLUMN]", help="What identifies a row: columns of the model, or business_date."
        ),
    ],
    day: Annotated[
        str | None,
        typer.Option("--date", metavar="COLUMN", help="The date or time whose day is business_date; else the first."),
    ] = None,
    incremental: Annotated[
        bool, typer.Option("--incremental", help="Overwrite the days that loads changed, instead of building all anew.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the files, write nothing.")] = False,
) -> None:
    """Write a mart: its SQL, and YAML with its contract, descriptions, tests, and how its rows are explained.

    If the grain identifies a row of the model, the model's rows are taken as they are; else they are added up by it.
    """
    from granary.dbt import manifest
    from granary.scaffold import mart_increments
    from granary.scaffold.mart import plan
    from granary.scaffold.mart_files import files
    from granary.scaffold.write import write_new

    settings = Settings.load()
    known = manifest.load(manifest.prepare(settings))
    mart = plan(known, name, model, tuple(grain.split(",")), day)
    made = mart_increments.files(mart, mart_increments.delivery(known, mart)) if incremental else files(mart)
    if dry_run:
        output.files(made)
        output.line("Nothing was written (--dry-run).")
        return
    write_new(made, PROJECT)
    taken = "added up by" if mart.grouped else "one by one, by"
    output.line(f"{name}: {plural(len(mart.columns), 'column')}; the rows of {model}, {taken} {', '.join(mart.grain)}.")
    if mart.day:
        output.line(f"  day     {mart.day}")
    if mart.sums:
        output.line(f"  adds up {', '.join(mart.sums)}")
    if mart.left_out:
        output.line(f"  without {', '.join(mart.left_out)}")
    output.line(f"{plural(len(made), 'file')} written: {', '.join(made)}")
    output.line("Next: `granary run` builds, tests and publishes it.")
