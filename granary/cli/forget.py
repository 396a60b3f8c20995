"""`granary forget`: erase somebody, everywhere, and keep them out."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson, ready

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.erasure.everywhere import Erased
    from granary.privacy.erasure import Total
    from granary.privacy.identity import Identity


def register(app: typer.Typer) -> None:
    """Put this subcommand into the command."""
    app.command(
        epilog="Examples: granary forget customer 42 --dry-run · granary forget customer 42 --reason request-113 ·"
        " granary forget --again"
    )(forget)


def forget(
    subject: Annotated[
        str | None,
        typer.Argument(metavar="SUBJECT", help="A name of data_subjects in dbt_project.yml; not needed if it has one."),
    ] = None,
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="The number, UUID or e-mail address.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why, for the record; name nobody in it.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be erased, and erase nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Erase once more who was forgotten: after a restore, or a run that failed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Erase somebody from raw, snapshots, quarantine and marts, and leave their rows out of every later load.

    The marts are built, audited and published as after a load. What went, by month, stays on record without the key. A
    run that was killed is finished by the next one.
    """
    from granary.erasure import everywhere
    from granary.privacy.forget import Outcome

    if again == (subject is not None) or (again and dry_run):
        raise typer.BadParameter("give a data subject and a key, or --again alone")
    identity = None if subject is None else _identify(subject, key)
    if not (yes or again or dry_run or sys.stdin.isatty()):
        raise typer.BadParameter("without a terminal, confirm with --yes")
    settings = ready()
    if identity is not None and (dry_run or not yes):
        totals = everywhere.look(settings, identity)
        if not as_json:
            _print_totals(totals, "Would be erased" if dry_run else "To be erased")
        elif dry_run:
            output.json(Outcome((), False, False, totals, (), ()))
        if dry_run:
            return
        if not typer.confirm("Erase these for good, and rebuild the marts?", err=True):
            raise typer.Exit(1)
    done = everywhere.forget(settings, identity, reason=reason, say=_say)
    if as_json:
        output.json({**asdict(done.outcome), "not_stored": done.not_stored})
    else:
        _report(done)
    if not done.outcome.finished:
        raise typer.Exit(1)


def _identify(subject: str, key: str | None) -> Identity:
    """Return who is meant. With one word only it is the key of the only data subject."""
    from granary.privacy.identity import identify
    from granary.sources import subjects

    known = subjects.declared()
    if key is None and (len(known) != 1 or subject in known):
        names = ", ".join(known) or "none: declare it in dbt_project.yml (vars: data_subjects)"
        raise typer.BadParameter(f"give a data subject and its key; the project has {names}")
    try:
        return identify(subject, key) if key is not None else identify(next(iter(known)), subject)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _print_totals(totals: Sequence[Total], title: str) -> None:
    if not totals:
        output.line("Nothing of it is left to erase.")
        return
    output.table(
        title,
        ("relation", "month", "rows", "of which"),
        [(total.relation, (total.month or "")[:7], total.rows, _first_sum(total)) for total in totals],
    )


def _first_sum(total: Total) -> str:
    """Return the first sum of a total: that of the amount which a table names first."""
    return next((f"{name} {value}" for name, value in total.measures.items()), "")


def _report(erased: Erased) -> None:
    done = erased.outcome
    if done.known_before:
        output.line("They were forgotten before.")
    if done.totals:
        _print_totals(done.totals, "Erased")
    for name in done.elsewhere:
        output.line(f"{name} still has rows of a forgotten data subject, and nothing here fills it: see its owner.")
    for name in done.left:
        output.line(f"{name} still has rows of a forgotten data subject.")
    if not done.finished:
        output.line("Not finished: another build may have been at work. Run `granary forget --again`.")
    elif done.erasures:
        output.line("The marts are published and the tables vacuumed.")
        output.line("What remains elsewhere: `granary guide runbooks/forget-somebody`")
    else:
        output.line("Nothing is left to do.")
    if erased.exports:
        stale = ", ".join(f"{mart} in {place}" for mart, place in erased.exports)
        output.line(f"Exports still have their rows, until `granary export --all --purge`: {stale}.")
    for name, target in erased.deliveries:
        output.line(f"{target} may still have their rows, until `granary deliver {name}` has them deleted there.")


def _say(words: str) -> None:
    print(f"granary: {words}", file=sys.stderr)
