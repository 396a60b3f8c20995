"""`granary backup`, `granary restore`, `granary drill`: the warehouse at a safe place, and back from there."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson, ready

if TYPE_CHECKING:
    from granary.backup.catalog import Backup
    from granary.backup.config import Config
    from granary.backup.drill import Report

PLACE = "A folder, s3://BUCKET/PATH or sftp://HOST/PATH. Default: `to` in backup.yml."


def register(app: typer.Typer) -> None:
    """Put these commands into the command."""
    app.command(
        epilog="Examples: granary backup · granary backup --to /mnt/backups/shop --full · granary backup --list"
    )(backup)
    app.command(
        epilog="Examples: granary restore --into /srv/copy · granary restore --replace ·"
        " granary restore --replace --at 2026-03-11T09:30"
    )(restore)
    app.command(epilog="Examples: granary drill · granary drill --from s3://backups/shop --json")(drill)


def backup(
    to: Annotated[str | None, typer.Option(metavar="DEST", help=PLACE)] = None,
    full: Annotated[bool, typer.Option("--full", help="Everything, not only what has changed.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Show what is there, and make none.")] = False,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Print a new key for encryption, and make no backup.")
    ] = False,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Go on where another home of this warehouse, now gone, has left off.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a backup: the server's files, the log up to now, who is forgotten, and the project's files.

    What has changed since the last one is enough, until that is too old. `granary serve` makes them by itself, as
    backup.yml says, and stores the log every 20 seconds.
    """
    from granary.backup import base, catalog
    from granary.backup.config import destination, load
    from granary.warehouse.settings import Settings

    if new_key:
        _new_key()
        return
    config = load().at(to)
    settings = Settings.load() if listed else ready()
    place = destination(settings, config)
    if listed:
        _print_list(catalog.backups(place), catalog.position(place), place.place, as_json=as_json)
        return
    made = base.take(
        settings, config, place, full=full, take_over=take_over, say=output.line if not as_json else lambda _: None
    )
    if as_json:
        output.json(made)
    else:
        size = made.stored_bytes / 1e6
        output.line(f"Backup {made.name}: {size:,.1f} MB at {place.place}{_how(config)}")


def restore(
    source: Annotated[str | None, typer.Argument(metavar="[DEST]", help=PLACE)] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="As it was then: 2026-03-11T09:30, in UTC without an offset.")
    ] = None,
    into: Annotated[
        str | None, typer.Option(metavar="HOME", help="Another home than GRANARY_HOME; it is made.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="In place of the warehouse that is there, once all is restored.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Restore the warehouse from its backups: as it was last, or at a moment.

    It is made beside the one that is there, and takes its place at the end; without --replace nothing is replaced. Who
    was forgotten after that moment is erased again before. `granary run` then loads what has come since.
    """
    from dataclasses import replace as changed
    from pathlib import Path

    from granary.backup import restore as restoring
    from granary.backup.config import load
    from granary.supervisor.state import is_served
    from granary.warehouse.errors import GranaryError
    from granary.warehouse.project import require_project
    from granary.warehouse.settings import Settings

    require_project()
    settings = Settings.load()
    if into:
        home = Path(into).expanduser().absolute()
        settings = changed(settings, home=home, host=str(home / "run"), external=False)
    elif is_served(settings):
        todo = "end it first: `granary serve --stop`"
        raise GranaryError("the warehouse is kept up by `granary serve`", str(settings.home), todo)
    done = restoring.restore(
        settings,
        load().at(source),
        at=_moment(at) if at else None,
        replace_it=replace,
        say=output.line if not as_json else lambda _: None,
    )
    if as_json:
        output.json(done)
        return
    output.line(f"The warehouse is up in {done.home}, as it was at {done.until} ({done.seconds:,.0f} s).")
    if done.forgotten_again:
        output.line(f"Erased again, since they were forgotten later: {done.forgotten_again:,}")
    output.line("Next: `granary run` loads what has come since.")


def drill(
    place: Annotated[str | None, typer.Option("--from", metavar="DEST", help=PLACE)] = None,
    as_json: AsJson = False,
) -> None:
    """Prove that the newest backup can be restored: beside the warehouse, which goes on.

    What comes of it is compared with its own records: every mart by digest, every raw table by the ledger of loads, how
    far sources were read, and that nobody is back who was forgotten. It needs as much room as the warehouse, for as
    long as it takes. Exits with 1 if anything is wrong.
    """
    from dataclasses import asdict

    from granary.backup.config import load
    from granary.backup.drill import drill as prove

    report = prove(ready(), load().at(place), say=output.line if not as_json else lambda _: None)
    if as_json:
        output.json({"passed": report.passed, **asdict(report)})
    else:
        _print_report(report)
    if not report.passed:
        from granary.warehouse.errors import GranaryError

        raise GranaryError(f"the drill failed: {report.words}", report.place, "`granary guide runbooks/backup`")


def _print_report(report: Report) -> None:
    if report.backup:
        output.line(
            f"{report.backup} was up after {report.seconds_back:,.0f} s, as it was at {report.until}:"
            f" {report.seconds_lost:,.0f} s before the drill began."
        )
    for what in dict.fromkeys(check.what for check in report.checks):
        checks = [check for check in report.checks if check.what == what]
        good = [check for check in checks if check.passed]
        output.line(f"{what}: {len(good):,} of {len(checks):,} as it should be")
    wrong = [(check.what, check.subject, check.detail) for check in report.checks if not check.passed]
    if wrong:
        output.table("Not as it should be", ("what", "of", "found"), wrong)


def _moment(text: str) -> datetime:
    """Return the time that a person typed.

    Raises:
        typer.BadParameter: it is none.
    """
    try:
        found = datetime.fromisoformat(text.strip().removesuffix("Z"))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time; write YYYY-MM-DDTHH:MM") from None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def _how(config: Config) -> str:
    return ", encrypted" if config.encrypt_to else ""


def _new_key() -> None:
    from granary.backup.sealing import new_identity

    private, public = new_identity()
    output.line(f"encrypt_to: [{public}]")
    output.line(f"GRANARY_BACKUP_KEY={private}")
    output.line("The first line is for backup.yml. The second opens the backups: keep it elsewhere than them.")


def _print_list(found: list[Backup], position: object, place: str, *, as_json: bool) -> None:
    from dataclasses import asdict

    from granary.backup.catalog import Position

    until = position.at if isinstance(position, Position) else None
    if as_json:
        output.json({"place": place, "until": until, "backups": [asdict(one) for one in found]})
        return
    columns = ("backup", "complete since (UTC)", "MB", "stands on", "encrypted", "Postgres")
    rows = [
        (
            one.name,
            f"{one.finished:%Y-%m-%d %H:%M:%S}",
            one.stored_bytes / 1e6,
            one.parent or "",
            "yes" if one.encrypted else "no",
            one.postgres,
        )
        for one in found
    ]
    output.table(f"Backups at {place}", columns, rows) if rows else output.line(f"There is no backup at {place}")
    if until:
        output.line(f"The log goes on until {until}: any moment from the first backup to then can be restored.")
