"""`granary upgrade`: a newer engine, the warehouse's own tables, and what changes in the project's files."""

from __future__ import annotations

import os
import sys
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
        epilog="Examples: granary upgrade · granary upgrade --to 0.2.0 · granary upgrade --apply"
        " · granary upgrade >changes.diff && git apply changes.diff"
    )(upgrade)


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
