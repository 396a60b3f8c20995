"""`granary diff`: what would change for analysts."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson, existing
from granary.warehouse.words import plural


def register(app: typer.Typer) -> None:
    """Put this command into the command."""
    app.command(
        epilog="Examples: granary diff fct_orders · granary diff fct_orders --to dev_ada_build ·"
        " granary diff fct_orders --check --json"
    )(diff)


def diff(
    mart: Annotated[str, typer.Argument(metavar="MART", help="A mart, such as fct_orders.")],
    old: Annotated[str, typer.Option("--from", metavar="SCHEMA", help="The schema with the earlier build.")] = "marts",
    new: Annotated[str, typer.Option("--to", metavar="SCHEMA", help="The schema with the later build.")] = "build",
    examples: Annotated[int, typer.Option(min=0, max=100, help="Rows of each kind to show.")] = 3,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 if they differ.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare two builds of a mart: by default what is published with what was built and is not.

    Rows are the same one if they have the same key (the mart's unique index). To build without publishing:
    dbt build --vars 'publish: false'.
    """
    from granary.warehouse.compare import compare

    settings = existing()
    found = compare(settings, mart.rpartition(".")[2], old, new, examples)
    if as_json:
        output.json(found)
    else:
        output.line(
            f"{found.old}: {plural(found.rows_old, 'row')}. {found.new}: {plural(found.rows_new, 'row')}."
            f" Added {found.added:,}, removed {found.removed:,}, changed {found.changed:,}."
        )
        for words, columns in (
            ("only in the later build", found.added_columns),
            ("only in the earlier build", found.removed_columns),
            ("of another type", found.retyped_columns),
        ):
            if columns:
                output.line(f"Columns {words}: {', '.join(columns)}")
        if found.columns:
            output.table("Changed rows by column", ("column", "rows"), list(found.columns.items()))
        for example in found.examples:
            output.line(f"  {json.dumps(example)}")
    if check and not found.same:
        raise typer.Exit(1)
