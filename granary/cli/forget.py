"""`granary forget`: erase a household, everywhere, and keep it out."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import show
from granary.cli.options import AsJson, ready

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.privacy.erasure import Total
    from granary.privacy.forget import Forgotten


def register(app: typer.Typer) -> None:
    """Put this subcommand into the command."""
    app.command(
        epilog='Examples: granary forget 42 --dry-run · granary forget 42 --reason "request of 3 March" ·'
        " granary forget --again"
    )(forget)


def forget(
    household: Annotated[str | None, typer.Argument(metavar="[HOUSEHOLD]", help="The household's number.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why, for the record; name nobody in it.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be erased, and erase nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Erase once more who was forgotten: after a restore, or a run that failed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Erase a household from raw, snapshots, quarantine and marts, and leave its rows out of every later load.

    The marts are built, audited and published as after a load. What went, by month, stays on record without the
    household. A run that was killed is finished by the next one.
    """
    from granary.privacy import forget

    if again == (household is not None) or (again and dry_run):
        raise typer.BadParameter("give a household's number, or --again alone")
    if not (yes or again or dry_run or sys.stdin.isatty()):
        raise typer.BadParameter("without a terminal to ask at, give --yes")
    settings = ready()
    if household is not None and (dry_run or not yes):
        totals = forget.look(settings, household)
        if not as_json:
            _tell(totals, "Would be erased" if dry_run else "To be erased")
        elif dry_run:
            show.json(forget.Forgotten((), False, False, totals, (), ()))
        if dry_run:
            return
        if not typer.confirm("Erase these for good, and rebuild the marts?", err=True):
            raise typer.Exit(1)
    done = forget.forget(settings, household, reason=reason)
    if as_json:
        show.json(done)
    else:
        _report(done)
    if not done.finished:
        raise typer.Exit(1)


def _tell(totals: Sequence[Total], title: str) -> None:
    if not totals:
        show.line("Nothing of it is left to erase.")
        return
    show.table(
        title,
        ("relation", "month", "rows", "of which"),
        [(total.relation, (total.month or "")[:7], total.rows, _money(total)) for total in totals],
    )


def _money(total: Total) -> str:
    """Return the first sum of a total: that of the amount which a table names first."""
    named = sorted(total.measures, key=lambda name: name != "sales_value")
    return f"{named[0]} {total.measures[named[0]]}" if named else ""


def _report(done: Forgotten) -> None:
    if done.known_before:
        show.line("The household was forgotten before.")
    if done.totals:
        _tell(done.totals, "Erased")
    for name in done.elsewhere:
        show.line(f"{name} still has a forgotten household, and nothing here fills it: see its owner.")
    for name in done.left:
        show.line(f"{name} still has a forgotten household.")
    if not done.finished:
        show.line("Not finished: another build may have been at work. Run `granary forget --again`.")
    elif done.erasures:
        show.line("The marts are published and the tables vacuumed.")
        show.line("What remains elsewhere: docs/engine/runbooks/forget-a-household.md")
    else:
        show.line("Nothing is left to do.")
