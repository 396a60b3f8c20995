"""`granary quarantine`: rows that were refused, why, and a way back in."""

from __future__ import annotations

from typing import Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson
from granary.warehouse.errors import GranaryError
from granary.warehouse.settings import Settings

quarantine = typer.Typer(help="Rows and files that were refused, why, and a way back in.", no_args_is_help=True)

Ids = Annotated[list[int], typer.Argument(metavar="ID...", help="Numbers that `granary quarantine list` shows.")]


def register(app: typer.Typer) -> None:
    """Put these subcommands into the command."""
    app.add_typer(quarantine, name="quarantine")


@quarantine.command("list", epilog="Examples: granary quarantine list · granary quarantine list shop --status all")
def list_entries(
    what: Annotated[list[str] | None, typer.Argument(metavar="[SOURCE[.TABLE]]...")] = None,
    status: Annotated[str, typer.Option(help="open, replayed, dropped, superseded, failed or all.")] = "open",
    limit: Annotated[int, typer.Option(help="How many entries to list at most.", min=1)] = 100,
    as_json: AsJson = False,
) -> None:
    """List what was refused: where it is in the source, and the reason; `granary quarantine show` has the rows."""
    from dataclasses import asdict

    from granary.quarantine.replay import entries
    from granary.sources.select import select

    if status not in (allowed := ("open", "replayed", "dropped", "superseded", "failed", "all")):
        raise typer.BadParameter(f"--status is one of {', '.join(allowed)}")
    found = entries(
        Settings.load(),
        tables=select(what, changes=True) if what else (),
        status=None if status == "all" else status,
        limit=limit,
    )
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
    """Print entries whole, as JSON, with the row as it was received. It may hold personal data."""
    from granary.quarantine.replay import entries

    output.json(entries(Settings.load(), ids))


@quarantine.command(
    epilog="Examples: granary quarantine replay 17 18 · granary quarantine replay --table shop.orders"
    " · granary quarantine replay 17 --set quantity=1"
)
def replay(
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Entries; or use --table.")] = None,
    tables: Annotated[
        list[str] | None, typer.Option("--table", metavar="SOURCE[.TABLE]", help="All open entries of a table.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="COLUMN=VALUE", help="A value in place of the one received.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send refused rows through the contract as it is now; each lands exactly once or stays, with the reason.

    Exits with 1 if an entry was refused again.
    """
    from granary.quarantine import replay as ways
    from granary.sources.select import select

    if bool(ids) == bool(tables):
        raise typer.BadParameter("give the entries' numbers, or --table")
    settings = Settings.load()
    chosen = ways.entries(settings, ids or (), tables=select(tables, changes=True) if tables else ())
    if failed := [entry for entry in chosen if entry.status == "failed"]:
        words = f"entry {failed[0].quarantine_id} is of a load that failed, of which nothing has landed"
        raise GranaryError(words, failed[0].unit, "fix the cause, and `granary load` reads it whole")
    if closed := [entry.quarantine_id for entry in chosen if entry.status != "open"]:
        raise GranaryError(f"entry {closed[0]} is no longer open", "ops.quarantine", "leave it out")
    results = ways.replay(settings, chosen, dict(map(_assignment, changes or [])))
    if as_json:
        output.json(results)
    else:
        for result in results:
            output.line(f"{result.source}.{result.table}: {len(result.landed)} landed, {len(result.refused)} refused")
            for number, reason in result.refused[:20]:
                output.line(f"  {number}: {reason}")
        output.line("Next: `granary run` builds what follows." if any(r.landed for r in results) else "Nothing landed.")
    if any(result.refused for result in results):
        raise typer.Exit(1)


@quarantine.command(epilog="Example: granary quarantine drop 17 18")
def drop(ids: Ids) -> None:
    """Give entries up: they are not replayed any more; their rows stay for the record."""
    from granary.quarantine import replay as ways

    output.line(f"{ways.drop(Settings.load(), ids)} entries dropped.")


def _assignment(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise typer.BadParameter(f"{text!r} is not COLUMN=VALUE")
    return name, value
