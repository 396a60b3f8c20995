"""`granary incidents`: what is wrong, since when, what it reaches, and who looks after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson, existing

if TYPE_CHECKING:
    from datetime import datetime

    from granary.alerting.incidents import Incident

incidents = typer.Typer(help="What is wrong, since when, what it reaches, and what to do.", no_args_is_help=True)

Number = Annotated[int, typer.Argument(metavar="ID", help="As `granary incidents list` shows it.")]


def register(app: typer.Typer) -> None:
    """Put these subcommands into the command."""
    app.add_typer(incidents, name="incidents")


@incidents.command("list", epilog="Examples: granary incidents list · granary incidents list --all --json")
def list_incidents(
    everything: Annotated[bool, typer.Option("--all", help="Also those that are over, the newest first.")] = False,
    limit: Annotated[int, typer.Option(help="How many to list at most.", min=1)] = 100,
    as_json: AsJson = False,
) -> None:
    """List the incidents that are open: one per cause, the gravest first."""
    from dataclasses import asdict

    from granary.alerting.incidents import load
    from granary.warehouse.connection import connect

    which = "order by incident_id desc" if everything else "where closed_at is null order by severity, opened_at"
    with connect(existing()) as connection:
        found = load(connection, f"{which} limit {int(limit)}")
    if as_json:
        output.json([asdict(one) for one in found])
    elif not found:
        output.line("No incident is open." if not everything else "There was no incident yet.")
    else:
        columns = ("id", "how grave", "cause", "since (UTC)", "signals", "marts", "owner", "state")
        output.table("Incidents", columns, [_row(one) for one in found])


@incidents.command(epilog="Examples: granary incidents show 12 · granary incidents show 12 --json")
def show(number: Number, as_json: AsJson = False) -> None:
    """Print all of an incident: what is wrong, what follows from it, what it reaches, and who was told."""
    from dataclasses import asdict
    from datetime import datetime, timezone

    from granary.alerting import config, queue
    from granary.alerting.incidents import Change, one
    from granary.alerting.message import measured, message
    from granary.warehouse.connection import connect

    with connect(existing()) as connection:
        found = one(connection, number)
        told = queue.told(connection, number)
    if as_json:
        output.json({**asdict(found), "told": [asdict(each) for each in told]})
        return
    kind = "closed" if found.closed_at else "updated"
    now = found.closed_at or datetime.now(timezone.utc)
    output.line(message(Change(kind, found), "", now, config.load()).text)  # type: ignore[arg-type]
    output.table("Signals", ("kind", "subject", "what"), [(s.kind, s.subject, measured(s)) for s in found.signals])
    if found.affected:
        reached = [(a.kind, a.name, _at(a.published_at)) for a in found.affected]
        output.table("What it reaches", ("kind", "name", "published (UTC)"), reached)
    if told:
        rows = [(t.transition, t.channel, _at(t.sent_at) or t.error or "waits") for t in told]
        output.table("Told", ("what", "channel", "at (UTC)"), rows)


@incidents.command(epilog="Examples: granary incidents ack 12 · granary incidents ack 12 --by ada")
def ack(
    number: Number,
    by: Annotated[str, typer.Option(help="Who looks after it. Default: who types this.")] = "",
) -> None:
    """Say that somebody looks after an incident: it is not escalated, nor told again until it is over or graver."""
    from getpass import getuser

    from granary.alerting.incidents import ack as take_up

    found = take_up(existing(), number, by or getuser())
    output.line(f"Incident {number} ({found.cause}) is looked after by {found.acked_by}.")


@incidents.command(epilog="Examples: granary incidents mute 12 --for 8h · granary incidents mute 12 --off")
def mute(
    number: Number,
    length: Annotated[str, typer.Option("--for", metavar="TIME", help="How long, such as 30m, 8h or 2d.")] = "8h",
    off: Annotated[bool, typer.Option("--off", help="End it.")] = False,
) -> None:
    """Have nobody told of an incident for some time."""
    from datetime import timedelta

    from granary.alerting.config import span
    from granary.alerting.incidents import mute as be_quiet

    found = be_quiet(existing(), number, timedelta() if off else span(length))
    until = "is told again" if off else f"is not told until {found.muted_until:%Y-%m-%d %H:%M} UTC"
    output.line(f"Incident {number} ({found.cause}) {until}.")


def _at(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else ""


def _row(one: Incident) -> tuple[str, ...]:
    state = f"over since {one.closed_at:%Y-%m-%d %H:%M}" if one.closed_at else "open"
    if not one.closed_at and one.acked_by:
        state = f"looked after by {one.acked_by}"
    marts = sum(each.kind == "mart" for each in one.affected)
    signals = f"{len(one.signals):,}"
    return (
        str(one.incident_id), one.severity, one.cause, f"{one.since:%Y-%m-%d %H:%M}", signals, f"{marts:,}", one.owner,
        state,
    )  # fmt: skip
