"""`granary archive-raw`: old raw rows in files of a lake, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import log, output
from granary.cli.options import AsJson, business_date, existing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.tiering.archive import Moved
    from granary.tiering.records import Archive
    from granary.tiering.restore import Restored


def register(app: typer.Typer) -> None:
    """Put this command into the command."""
    app.command(
        name="archive-raw",
        epilog="Examples: granary archive-raw · granary archive-raw shop.orders --dry-run ·"
        " granary archive-raw shop.orders --restore --since 2016-01-01 --until 2016-01-31 · granary archive-raw --list",
    )(archive_raw)


def archive_raw(
    what: Annotated[
        list[str] | None, typer.Argument(metavar="[SOURCE[.TABLE]...]", help="Default: all with archive_after.")
    ] = None,
    restore: Annotated[bool, typer.Option("--restore", help="Bring rows back into Postgres.")] = False,
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="With --restore: from this day of the data.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="DATE", help="With --restore: to this day of the data.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show the files.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would move, and move nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Move raw rows that are older than their contract's `archive_after` to Parquet files of a lake (GRANARY_ARCHIVE).

    Rows are read back and compared before they leave Postgres. Marts keep what they hold; to compute old days again,
    --restore brings their raw rows back, whole files at a time.
    """
    from granary.tiering import records, run

    for day in (since, until):
        if day is not None:
            business_date(day)
    if (since or until) and not restore:
        raise typer.BadParameter("--since and --until go with --restore")
    if restore + listed + dry_run > 1:
        raise typer.BadParameter("give one of --restore, --list and --dry-run")
    if restore and not what:
        raise typer.BadParameter("name the tables to bring back")
    settings = existing()
    say = output.line if not as_json else lambda _: None
    if listed:
        held = records.held(settings)
        output.json(held) if as_json else _files(held)
        return
    chosen = run.chosen(what or [], every=restore)
    if restore:
        back, failures = run.restored(settings, chosen, since=since, until=until, say=say)
        output.json(back) if as_json else _back(back)
    else:
        moved, failures = run.archived(settings, chosen, dry_run=dry_run, say=say)
        output.json(moved) if as_json else _moved(moved, dry_run=dry_run)
    for error in failures:
        log.report(error)
    if failures:
        raise typer.Exit(1)


def _files(held: Sequence[Archive]) -> None:
    if not held:
        output.line("No raw rows are archived.")
        return
    rows = [
        (
            f"{one.source}.{one.table}",
            one.data_from,
            one.data_until,
            one.rows,
            _mb(one.raw_bytes),
            _mb(one.bytes),
            one.path,
        )
        for one in held
    ]
    columns = ("table", "from", "to", "rows", "MB in Postgres", "MB there", "file")
    output.table("Archived raw rows", columns, rows)


def _moved(done: Sequence[Moved], *, dry_run: bool) -> None:
    if not done:
        output.line("No table has archive_after in its contract, or none could be archived.")
        return
    rows = [
        (f"{one.source}.{one.table}", one.before, one.loads, one.rows, one.files, _mb(one.raw_bytes), _mb(one.bytes))
        for one in done
    ]
    columns = ("table", "data before", "loads", "rows", "files", "MB in Postgres", "MB there")
    output.table("Would be archived" if dry_run else "Archived", columns, rows)


def _back(done: Sequence[Restored]) -> None:
    for one in done:
        output.line(
            f"{one.source}.{one.table}: {one.rows:,} rows of {one.loads:,} loads are back, from {one.files:,} files."
        )


def _mb(size: int) -> float:
    return round(size / 1e6, 1)
