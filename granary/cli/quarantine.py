"""`granary quarantine`: rows that were refused, on their way in or out, why, and a way back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson
from granary.warehouse.errors import GranaryError
from granary.warehouse.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.quarantine.replay import Entry

quarantine = typer.Typer(
    help="Rows and files that were refused, by a contract or by a delivery's target: why, and a way back.",
    no_args_is_help=True,
)

Ids = Annotated[list[int], typer.Argument(metavar="ID...", help="Numbers that `granary quarantine list` shows.")]


def register(app: typer.Typer) -> None:
    """Put these subcommands into the command."""
    app.add_typer(quarantine, name="quarantine")


@quarantine.command(
    "list",
    epilog="Examples: granary quarantine list · granary quarantine list shop --status all"
    " · granary quarantine list deliveries.orders_out",
)
def list_entries(
    what: Annotated[list[str] | None, typer.Argument(metavar="[SOURCE[.TABLE]|deliveries[.NAME]]...")] = None,
    status: Annotated[str, typer.Option(help="open, replayed, dropped, superseded, failed or all.")] = "open",
    limit: Annotated[int, typer.Option(help="How many entries to list at most.", min=1)] = 100,
    as_json: AsJson = False,
) -> None:
    """List what was refused: where it is in the source, or where it was to go, and the reason; `show` has the rows."""
    from dataclasses import asdict

    if status not in (allowed := ("open", "replayed", "dropped", "superseded", "failed", "all")):
        raise typer.BadParameter(f"--status is one of {', '.join(allowed)}")
    found = _named(what or (), None if status == "all" else status, limit)
    if as_json:
        rows = [asdict(entry) | {"why": entry.why} for entry in found]
        output.json([{name: value for name, value in row.items() if name != "payload"} for row in rows])
    elif not found:
        output.line("The quarantine holds no such entry.")
    else:
        output.table(
            "Quarantine",
            ("id", "table", "place", "column", "reason", "status", "first seen"),
            [
                (
                    str(entry.quarantine_id), f"{entry.source}.{entry.table}", entry.place, entry.column, entry.why,
                    "" if entry.status == "open" else entry.status, f"{entry.first_seen_at:%Y-%m-%d %H:%M}",
                )
                for entry in found
            ],
        )  # fmt: skip
        if len(found) == limit:
            output.line(f"There may be more than {limit}: raise --limit.")


@quarantine.command("show", epilog="Example: granary quarantine show 17")
def show_entry(ids: Ids) -> None:
    """Print entries whole, as JSON, with the row as it was received or was to be sent. It may hold personal data."""
    output.json(_numbered(ids))


@quarantine.command(
    epilog="Examples: granary quarantine replay 17 18 · granary quarantine replay --table shop.orders"
    " · granary quarantine replay 17 --set quantity=1 · granary quarantine replay --table deliveries.orders_out"
)
def replay(
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Entries; or use --table.")] = None,
    tables: Annotated[
        list[str] | None,
        typer.Option("--table", metavar="SOURCE[.TABLE]", help="All open entries of a table, or of deliveries[.NAME]."),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="COLUMN=VALUE", help="A value in place of the one received.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send refused rows through the contract as it is now, or to their delivery's target once more.

    Each lands exactly once or stays, with the reason. Exits with 1 if an entry was refused again.
    """
    from granary.deliver import refused as outgoing
    from granary.deliver.discovery import PACKAGE
    from granary.quarantine import replay as ways

    if bool(ids) == bool(tables):
        raise typer.BadParameter("give the entries' numbers, or --table")
    chosen = _numbered(ids) if ids else _named(tables or (), "open", None)
    if failed := [entry for entry in chosen if entry.status == "failed"]:
        words = f"entry {failed[0].quarantine_id} is of a load that failed, of which nothing has landed"
        raise GranaryError(words, failed[0].unit, "fix the cause, and `granary load` reads it whole")
    if closed := [entry.quarantine_id for entry in chosen if entry.status != "open"]:
        raise GranaryError(f"entry {closed[0]} is no longer open", "ops.quarantine", "leave it out")
    going = [entry for entry in chosen if entry.source == PACKAGE]
    coming = [entry for entry in chosen if entry.source != PACKAGE]
    if going and changes:
        what = f"entry {going[0].quarantine_id} is a row of a mart, in which no value is set"
        raise GranaryError(what, f"delivery {going[0].table}", "correct the mart, or leave --set out")
    settings = Settings.load()
    landed = ways.replay(settings, coming, dict(map(_assignment, changes or [])))
    results = [*landed, *outgoing.replay(settings, going)]
    if as_json:
        output.json(results)
    else:
        for result in results:
            output.line(f"{result.source}.{result.table}: {len(result.landed)} landed, {len(result.refused)} refused")
            for number, reason in result.refused[:20]:
                output.line(f"  {number}: {reason}")
        if any(result.landed for result in landed):
            output.line("Next: `granary run` builds what follows.")
        elif not any(result.landed for result in results):
            output.line("Nothing landed.")
    if any(result.refused for result in results):
        raise typer.Exit(1)


@quarantine.command(epilog="Example: granary quarantine drop 17 18")
def drop(ids: Ids) -> None:
    """Give entries up: they are not replayed any more; their rows stay for the record."""
    from granary.deliver import refused as outgoing
    from granary.deliver.discovery import PACKAGE
    from granary.quarantine import replay as ways

    settings = Settings.load()
    chosen = _numbered(ids)
    going = [entry.quarantine_id for entry in chosen if entry.source == PACKAGE]
    coming = [entry.quarantine_id for entry in chosen if entry.source != PACKAGE]
    number = ways.drop(settings, coming) + (outgoing.drop(settings, going) if going else 0)
    output.line(f"{number} entries dropped.")


def _numbered(ids: Sequence[int]) -> list[Entry]:
    """Return entries by their numbers.

    Raises:
        GranaryError: there is no entry with one of them.
    """
    from granary.deliver import refused as outgoing
    from granary.quarantine import replay as ways

    settings = Settings.load()
    going = outgoing.entries(settings, ids) or []
    rest = sorted(set(ids) - {entry.quarantine_id for entry in going})
    return sorted([*going, *(ways.entries(settings, rest) if rest else ())], key=lambda entry: entry.quarantine_id)


def _named(what: Sequence[str], status: str | None, limit: int | None) -> list[Entry]:
    """Return entries of sources, tables and deliveries by their names, none of them for all, and by their status."""
    from granary.deliver import refused as outgoing
    from granary.deliver.discovery import PACKAGE, declared
    from granary.quarantine import replay as ways
    from granary.sources.select import select
    from granary.warehouse.errors import unknown

    settings = Settings.load()
    deliveries = [name for name in what if name.partition(".")[0] == PACKAGE]
    tables = [name for name in what if name not in deliveries]
    found = []
    if tables or not what:
        pairs = select(tables, changes=True) if tables else ()
        found += ways.entries(settings, tables=pairs, status=status, limit=limit)
    if deliveries or not what:
        names = None if not what or PACKAGE in what else [name.partition(".")[2] for name in deliveries]
        going = outgoing.entries(settings, names=names, status=status, limit=limit)
        known = {*declared()[0], *declared()[1], *(entry.table for entry in going or ())}
        if strange := sorted(set(names or ()) - known):
            raise unknown("delivery", strange[0], known)
        if going is None:
            print("granary: what deliveries' targets refused is for the warehouse's owner to see", file=sys.stderr)
        found += going or []
    return sorted(found, key=lambda entry: entry.quarantine_id)[:limit]


def _assignment(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise typer.BadParameter(f"{text!r} is not COLUMN=VALUE")
    return name, value
