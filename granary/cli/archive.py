"""`granary archive`: old ranges of a partitioned mart."""

from __future__ import annotations

from typing import Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson, existing


def register(app: typer.Typer) -> None:
    """Put this command into the command."""
    app.command(
        epilog="Examples: granary archive fct_orders · granary archive fct_orders --before 2016-01-01 ·"
        " granary archive fct_orders --undo"
    )(archive)


def archive(
    mart: Annotated[str, typer.Argument(metavar="MART", help="A mart with range partitions, such as fct_orders.")],
    before: Annotated[
        str | None, typer.Option(metavar="VALUE", help="Archive the ranges that end at this date or number, or before.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Have the next publish carry everything again.")] = False,
    schema: Annotated[str, typer.Option(metavar="SCHEMA", help="Where the mart is published.")] = "marts",
    as_json: AsJson = False,
) -> None:
    """Take the oldest ranges out of a published mart, into the schema `archive`; without options, show its ranges.

    No publish brings them back, until --undo. What is built keeps all of history.
    """
    from granary.warehouse import archive as archives

    if before is not None and undo:
        raise typer.BadParameter("give --before or --undo")
    settings = existing()
    if undo:
        began = archives.undo(settings, schema, mart)
        if as_json:
            output.json({"mart": mart, "archived_before": began})
        elif began is None:
            output.line(f"Nothing of {mart} is archived.")
        else:
            output.line(f"The next publish carries what lies before {began} again: `dbt run-operation publish`.")
            output.line("The tables of the schema archive stay; drop what nobody needs.")
        return
    found = (
        archives.ranges(settings, schema, mart) if before is None else archives.archive(settings, schema, mart, before)
    )
    if as_json:
        output.json(list(found))
        return
    if not found:
        output.line(f"No range of {mart} ends at {before} or before.")
        return
    output.table(
        f"Ranges of {mart}" if before is None else "Archived",
        ("table", "from", "to", "rows, about", "MB"),
        [(one.name or "(archived)", one.lower, one.upper, one.rows, round(one.bytes / 1e6, 1)) for one in found],
    )
    if before is not None:
        output.line(
            "Nobody reads them now but dbt's role. Copy and drop them, or keep them: `granary guide range-partitions`"
        )
