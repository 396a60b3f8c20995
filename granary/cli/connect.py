"""`granary connect`: the environments of Singer taps and dlt sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import require_project

if TYPE_CHECKING:
    from granary.readers.connectors.environment import Connector

Name = Annotated[str, typer.Argument(metavar="NAME", help="A connector of the project, such as tap-csv.")]

group = typer.Typer(no_args_is_help=True, help="Connectors of others: Singer taps and dlt sources.")


def register(app: typer.Typer) -> None:
    """Put these commands into the command."""
    app.add_typer(group, name="connect")


@group.command(
    epilog="Examples: granary connect install tap-postgres --package meltanolabs-tap-postgres ·"
    " granary connect install tap-jsonl==0.3.1 · granary connect install dlt --package 'dlt[sql_database,parquet]' ·"
    " granary connect install"
)
def install(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="The tap's program, perhaps with ==VERSION; without it, all locks."),
    ] = None,
    package: Annotated[
        list[str] | None,
        typer.Option("--package", metavar="PACKAGE", help="The package that has it, if named otherwise; repeatable."),
    ] = None,
    python: Annotated[str, typer.Option("--python", metavar="PATH", help="The Python to run it, if not ours.")] = "",
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Lock what is newest now, instead of what is locked.")
    ] = False,
    build: Annotated[
        bool, typer.Option("--build", help="Also take packages that have to be built: code of theirs runs meanwhile.")
    ] = False,
) -> None:
    """Install a connector in an environment of its own, as `connectors/NAME.lock` says; the first time, write that.

    The lock has the version and the hash of every package; commit it. On another machine the same files are installed.
    """
    from granary.readers.connectors import environment

    require_project()
    if name is None:
        if package or upgrade:
            raise typer.BadParameter("say which connector: granary connect install NAME")
        for connector in environment.every():
            _say(environment.install(connector.name, interpreter=python, build=build))
        return
    program, pinned, _ = name.partition("==")
    packages = tuple(package or ((name,) if pinned else ()))
    if upgrade and not packages and environment.lock_of(program).is_file():
        packages = (next(iter(environment.read(program).pinned)),)
    _say(environment.install(program, packages, interpreter=python, anew=upgrade, build=build))


def _say(connector: Connector) -> None:
    from granary.readers.connectors.environment import lock_of

    first, version = next(iter(connector.pinned.items()))
    output.line(
        f"{connector.name}: {first} {version}, {len(connector.pinned)} packages, as in {lock_of(connector.name)}"
    )


@group.command("list", epilog="Example: granary connect list --json")
def list_(as_json: AsJson = False) -> None:
    """Show the connectors of the project, and whether they are installed on this machine."""
    from granary.readers.connectors.environment import every

    require_project()
    rows = [(one.name, *next(iter(one.pinned.items())), len(one.pinned), one.folder is not None) for one in every()]
    if as_json:
        names = ("name", "package", "version", "packages", "installed")
        output.json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        shown = [(*row[:4], "yes" if row[4] else "no: granary connect install") for row in rows]
        output.table("Connectors", ("name", "package", "version", "packages", "installed"), shown)


@group.command(epilog="Example: granary connect check")
def check(name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this one.")] = None) -> None:
    """Compare environments with their locks; exits with 1 if one is not as locked."""
    from granary.readers.connectors import environment

    require_project()
    names = [name] if name else [one.name for one in environment.every()]
    wrong = [words for one in names for words in environment.check(one)]
    for words in wrong:
        output.line(words)
    if wrong:
        raise GranaryError(
            f"{len(wrong)} differences from the locks", todo="`granary connect install NAME` sets them right"
        )
    output.line(f"{', '.join(names) or 'No connector'}: as locked.")


@group.command(epilog="Example: granary connect remove tap-csv")
def remove(name: Name) -> None:
    """Remove a connector's environment and its lock; sources that use it cannot be loaded any more."""
    from granary.readers.connectors.environment import remove as take_away

    require_project()
    take_away(name)
    output.line(f"{name} is removed.")
