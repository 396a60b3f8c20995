"""`granary alerts`: look and tell, try the channels, and say who is told what, when."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson, existing
from granary.warehouse.errors import GranaryError
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from granary.alerting.watch import Watched
    from granary.warehouse.settings import Settings

alerts = typer.Typer(help="Look what is wrong and tell whom it concerns.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Put these subcommands into the command."""
    app.add_typer(alerts, name="alerts")


@alerts.command(epilog="Examples: granary alerts send · granary alerts send --follow --every 15")
def send(
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=1)] = 15,
    as_json: AsJson = False,
) -> None:
    """Look what is wrong, group it by its cause, and tell whom it concerns; what could not be sent waits.

    Exits with 1 if something waits for a channel, or could not be looked at.
    """
    from dataclasses import asdict

    from granary.alerting import config, queue, watch

    settings = existing()
    if follow:
        _follow(settings, every)
        return
    done = watch.once(settings, config.load())
    left = queue.waiting(settings)
    if as_json:
        output.json({**asdict(done), "waiting": [asdict(one) for one in left]})
    else:
        output.line(_sentence(done))
        for one in left:
            output.line(f"{one.alerts:,} wait for channel {one.channel}, until {one.due_at:%H:%M:%S} UTC: {one.error}")
        for kind, why in done.blind.items():
            output.line(f"Not looked at: {kind}: {why}")
    if left or done.blind:
        raise typer.Exit(1)


@alerts.command("test", epilog="Examples: granary alerts test · granary alerts test chat")
def try_channels(
    channel: Annotated[list[str] | None, typer.Argument(metavar="[CHANNEL]...", help="Default: each.")] = None,
) -> None:
    """Send a sample to each channel, at once and past the queue, and say what became of it."""
    from datetime import datetime, timezone

    from granary.alerting import config
    from granary.alerting.message import sample
    from granary.alerting.senders import send as hand_over
    from granary.warehouse.errors import unknown
    from granary.warehouse.settings import Settings

    found = config.load()
    for name in channel or ():
        if name not in found.channels:
            raise unknown("channel", name, found.channels, config.FILE)
    if not found.channels:
        raise GranaryError("there is no channel", config.FILE, "name one: `granary guide alerts`")
    settings = Settings.load()
    said = sample(datetime.now(timezone.utc), found)
    failed = False
    for name in channel or found.channels:
        try:
            hand_over(settings, found.channels[name], said)
        except GranaryError as error:
            failed = True
            print(f"granary: {name}: {error}", file=sys.stderr)
        else:
            output.line(f"{name}: taken")
    if failed:
        raise typer.Exit(1)


@alerts.command(epilog="Example: granary alerts policy > docs/who-is-told.md")
def policy() -> None:
    """Print the page "who is told what, when", from alerts.yml and the engine's rules."""
    from granary.alerting import config
    from granary.alerting.policy import page

    print(page(config.load()), end="")


def after_a_run(settings: Settings) -> None:
    """Look and tell at the end of a run; whatever goes wrong with that is said, and is no failure of the run."""
    import psycopg

    from granary.alerting import config, watch
    from granary.warehouse.connection import reason

    try:
        watch.once(settings, config.load(), remote=False)
    except (GranaryError, psycopg.Error) as error:
        words = reason(error) if isinstance(error, psycopg.Error) else str(error)
        print(f"granary: incidents: {words}", file=sys.stderr)


def _follow(settings: Settings, every: float) -> None:
    from granary.alerting import watch

    def words(done: Watched | GranaryError) -> str:
        return str(done) if isinstance(done, GranaryError) else _sentence(done)

    watch.follow_until_ended(settings, words, every=every)


def _sentence(done: Watched) -> str:
    return f"Open: {plural(done.open, 'incident')}; changed: {done.changed:,}; sent: {plural(done.sent, 'alert')}."
