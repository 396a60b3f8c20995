"""`granary export`: marts in a lake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson, existing
from granary.warehouse.errors import GranaryError
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from granary.lake.export import Exported
    from granary.lake.records import Export


def register(app: typer.Typer) -> None:
    """Put this command into the command."""
    app.command(
        epilog="Examples: granary export fct_orders --to s3://lake/marts --format iceberg --partition-by placed_on ·"
        " granary export fct_orders --to exports --format parquet · granary export --all · granary export"
    )(export)


def export(
    mart: Annotated[str | None, typer.Argument(metavar="[MART]", help="Default: list what was exported.")] = None,
    to: Annotated[
        str | None, typer.Option(metavar="PLACE", help="A folder, s3://BUCKET/FOLDER or iceberg+https://CATALOGUE.")
    ] = None,
    kind: Annotated[str, typer.Option("--format", help="iceberg, delta or parquet.")] = "iceberg",
    partition_by: Annotated[
        str | None,
        typer.Option(metavar="COL[:UNIT]", help="A column; of a date or time by day, month (the default) or year."),
    ] = None,
    role: Annotated[str, typer.Option(help="With whose rights; analyst_pii exports personal columns.")] = "analyst",
    everything: Annotated[bool, typer.Option("--all", help="Bring all exports to the last publish.")] = False,
    purge: Annotated[bool, typer.Option("--purge", help="Delete what only earlier versions hold.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a published mart to a lake as Iceberg, Delta or Parquet; later on, only the partitions that changed.

    One commit each: readers see the former publish, or this one. Personal columns are masked, unless --role may see
    them.
    """
    from granary.lake import export as lake
    from granary.lake.records import exports

    settings = existing()
    if mart is None and not everything:
        if to or partition_by or purge:
            raise typer.BadParameter("name a mart, or write --all")
        held = exports(settings)
        output.json(held) if as_json else _listed(held)
        return
    if (mart is None) == (to is not None) or (mart and everything):
        raise typer.BadParameter("write MART --to PLACE, or --all")
    if mart and to:
        found = [lake.export(settings, lake.Wanted(mart, to, kind, partition_by, role), purge=purge)]
        output.json(found[0]) if as_json else _told(found[0])
        return
    done: list[Exported] = []
    failed = []
    for one in exports(settings):
        try:
            done.append(lake.again(settings, one, purge=purge))
        except GranaryError as error:
            failed.append(error)
    if as_json:
        output.json(done)
    else:
        for each in done:
            _told(each)
    if failed:
        raise failed[0]


def _told(one: Exported) -> None:
    if one.written or one.removed:
        output.line(
            f"{one.mart}, publish {one.publish_id}, is in {one.where}: {plural(one.rows, 'row')}. Written:"
            f" {one.written:,} of {plural(one.partitions, 'partition')}, {plural(one.rows_written, 'row')};"
            f" removed: {one.removed:,}."
        )
    else:
        output.line(f"{one.mart} is in {one.where} as publish {one.publish_id} left it: nothing was written.")
    if one.purged:
        output.line(f"{one.purged:,} files of earlier versions are deleted.")


def _listed(held: list[Export]) -> None:
    if not held:
        output.line("Nothing was exported: `granary export MART --to PLACE` does.")
        return
    rows = [
        (one.mart, one.format, one.place, one.role, one.publish_id, one.rows, one.exported_at[:16], one.stale)
        for one in held
    ]
    columns = ("mart", "format", "place", "read as", "publish", "rows", "at", "has somebody forgotten")
    output.table("Exports", columns, rows)
