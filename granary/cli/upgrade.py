"""`granary upgrade`: a newer engine, the warehouse's own tables, and what changes in the project's files."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson
from granary.warehouse.settings import Settings

if TYPE_CHECKING:
    from granary.scaffold.template_changes import Change, Record

SAID = {
    "unedited": "changed in the template and not by you: --apply writes it",
    "edited": "changed in the template and by you: the diff adds the template's change to yours",
    "conflict": "changed in the template and by you in the same lines: the diff shows both",
    "removed": "changed in the template; you have deleted it",
}


def register(app: typer.Typer) -> None:
    """Put this command into the command."""
    app.command(
        epilog="Examples: granary upgrade · granary upgrade --check · granary upgrade --to 0.2.0"
        " · granary upgrade --apply · granary upgrade >changes.diff && git apply changes.diff"
    )(upgrade)
    app.command(
        epilog="Examples: granary upgrade-postgres --from ~/releases/0.1.0/.venv · granary upgrade-postgres --back"
    )(upgrade_postgres)


def upgrade(
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="WHEEL|VERSION", help="Install this engine first. Default: the one that is installed."
        ),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the files that you have not edited; everything must be committed.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Try the migrations in a transaction that is undone, and change nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the warehouse to the installed engine, and show what changes in the project's own files.

    The warehouse's own tables are migrated. Of the project's files a diff is printed; what you have edited is never
    overwritten. The warehouse has to be up.
    """
    from granary.scaffold import template_changes
    from granary.warehouse import server
    from granary.warehouse.connection import connect
    from granary.warehouse.project import PROJECT

    settings = Settings.load()
    if check:
        if to is not None or apply:
            raise typer.BadParameter("--check changes nothing, so it goes with neither --to nor --apply")
        connect(settings).close()
        _tried(server.prepare(settings, rehearses=True), as_json)
        return
    record = template_changes.read(PROJECT)
    if apply:
        template_changes.refuse_uncommitted(PROJECT)
    connect(settings).close()
    if to is not None:
        _install(settings, to, record)
        _again(apply, as_json)
    migrations = server.prepare(settings)
    found: list[Change] = []
    left = found
    if record:
        found, left = _files(record, apply)
    _print(migrations, record, found, left, as_json, applied=apply)


def _tried(migrations: tuple[str, ...], as_json: bool) -> None:
    """Say which migrations there would be."""
    if as_json:
        output.json({"migrations": migrations})
        return
    words = f"Tried and undone: {', '.join(migrations)}" if migrations else "There is nothing to migrate"
    output.line(f"{words}. This engine can work on this warehouse.")


def _install(settings: Settings, to: str, record: Record | None) -> None:
    """Install another engine, if the warehouse and the project can have it."""
    from granary.scaffold import new_engine
    from granary.warehouse.errors import GranaryError
    from granary.warehouse.migrate import is_newer

    engine = new_engine.find(to)
    new_engine.check(settings, engine)
    if record and is_newer(record.engine, engine.release.version):
        what = f"the project's files are of engine {record.engine}, which is newer than {engine.release.version}"
        raise GranaryError(what, todo="install that one, or a newer one")
    new_engine.install(engine)


def _again(apply: bool, as_json: bool) -> None:
    """Go on as the engine that has just been installed."""
    sys.stdout.flush()
    options = (["--apply"] if apply else []) + (["--json"] if as_json else [])
    start = "from granary.cli.main import main; main()"
    os.execv(sys.executable, [sys.executable, "-c", start, "upgrade", *options])  # noqa: S606 - no shell is wanted


def _files(record: Record, apply: bool) -> tuple[list[Change], list[Change]]:
    """Return the files in which the template changed, and those of them that are left to a person."""
    from granary.scaffold import new_project, template_changes
    from granary.warehouse.project import PROJECT

    template = new_project.template(new_project.remembered(PROJECT, record))
    found = template_changes.changes(PROJECT, record, template)
    return found, template_changes.apply(PROJECT, record, template, found) if apply else found


def _print(
    migrations: tuple[str, ...],
    record: Record | None,
    found: list[Change],
    left: list[Change],
    as_json: bool,
    *,
    applied: bool,
) -> None:
    """Say what was done on standard error, and print the diffs of what is left, which a file can take."""
    from granary.warehouse.migrate import engine_version

    if as_json:
        output.json(
            {
                "engine": engine_version(),
                "migrations": migrations,
                "written": [change.path for change in found if applied and change.state == "unedited"],
                "left": [{"path": one.path, "state": one.state, "diff": one.diff} for one in left],
            }
        )
        return
    lines = [f"The engine is {engine_version()}."]
    lines.append(f"Migrations: {', '.join(migrations)}." if migrations else "The warehouse's tables are up to date.")
    if record is None:
        lines.append("This project was not made by `granary init`: its files come with its repository, by git.")
    elif not found:
        lines.append("The project's files are up to date.")
    for change in found:
        is_written = applied and change.state == "unedited"
        lines.append(f"{change.path}: {'written' if is_written else SAID[change.state]}")
    print("\n".join(lines), file=sys.stderr)
    for change in left:
        sys.stdout.write(change.diff)


def upgrade_postgres(
    old: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Where the Postgres is that made the data: an earlier .venv."),
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Share files with the old cluster: seconds, no space, no way back.")
    ] = False,
    back: Annotated[
        bool, typer.Option("--back", help="Take the old cluster up again; what was written since is put aside.")
    ] = False,
) -> None:
    """Bring the embedded warehouse to the major version of Postgres that this engine has, by `pg_upgrade`.

    Nobody reads meanwhile. The old cluster stays beside the new one until you delete it.
    """
    from granary.supervisor.state import is_served
    from granary.warehouse import major_version
    from granary.warehouse.errors import GranaryError

    settings = Settings.load()
    if back == (old is not None) or (back and link):
        raise typer.BadParameter("give --from DIR, with --link or without, or --back alone")
    if is_served(settings):
        raise GranaryError("the warehouse is served", str(settings.home), "`granary serve --stop`, then this again")
    if old is None:
        version, left = major_version.back(settings)
        output.line(
            f"The data are those of Postgres {version} again: start them with the engine of that time, or its server."
        )
        output.line(f"What was written since is in {left}, which you may delete.")
        return
    done = major_version.upgrade(settings, old, link=link)
    if done is None:
        output.line("There is nothing to do: the data are of this Postgres.")
        return
    output.line(f"From Postgres {done.before} to {done.after} in {done.seconds:.0f} s.")
    if done.kept:
        output.line(
            f"The old cluster is in {done.kept}: `granary upgrade-postgres --back`; delete it when all is well."
        )
