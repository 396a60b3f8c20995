"""`granary contracts`: what each mart promises those who read it, written, judged, and taken from others."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from granary.cli import output
from granary.cli.options import AsJson
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT
from granary.warehouse.settings import Settings
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from granary.contracts.store import Verdict
    from granary.warehouse.connection import Connection

contracts = typer.Typer(
    help="Contracts of the marts (ODCS 3): what readers may rely on, and what a change would break.",
    no_args_is_help=True,
)

Marts = Annotated[list[str] | None, typer.Argument(metavar="[MART]...", help="Default: every mart.")]


def register(app: typer.Typer) -> None:
    """Put these commands into the command."""
    app.add_typer(contracts, name="contracts")


@contracts.command(epilog="Examples: granary contracts check · granary contracts check --against origin/main")
def check(
    what: Marts = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="REF", help="A commit, branch or tag, instead of the files.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the contracts in contracts/ with the project: what changed, is it breaking, and who uses it.

    Exits with 1 if a file is not what the project says now. With --against, if a promise that was given there is broken
    and the contract on file does not say so by a new major version.
    """
    from dataclasses import asdict

    from granary.contracts import store
    from granary.dbt import manifest as dbt_manifest

    settings = Settings.load()
    manifest = dbt_manifest.load(dbt_manifest.prepare(settings))
    files = store.on_file()
    if not files:
        output.line("This project has no contracts yet: `granary contracts write` writes them.")
        return
    with _database(settings) as database:
        verdicts = store.judge(manifest, files if against is None else store.at(against), what or (), database)
    if as_json:
        output.json([asdict(verdict) | {"breaks": verdict.breaks} for verdict in verdicts])
    else:
        _print(verdicts, "The contracts say what the project says.", looked=database is not None)
    if against is None:
        if verdicts:
            raise GranaryError(
                f"{len(verdicts)} contracts are not what the project says", store.FOLDER, "`granary contracts write`"
            )
        return
    silent = [one.mart for one in verdicts if one.breaks and not store.says_so(one, files.get(one.mart))]
    if silent:
        todo = "`granary contracts write` says what to do"
        raise GranaryError(f"promises of {against} are broken: {', '.join(silent)}", store.FOLDER, todo)


@contracts.command(epilog="Examples: granary contracts write · granary contracts write --breaking 'asked for by law'")
def write(
    what: Marts = None,
    breaking: Annotated[
        str, typer.Option("--breaking", metavar="REASON", help="Break promises before their time, and say why.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Write the contracts of the marts into contracts/, one file each, with the version that the change makes.

    A breaking change is refused as long as what goes was not announced, or is still promised.
    """
    from granary.contracts import store
    from granary.dbt import manifest as dbt_manifest
    from granary.scaffold.write import overwrite

    settings = Settings.load()
    manifest = dbt_manifest.load(dbt_manifest.prepare(settings))
    with _database(settings) as database:
        verdicts = store.judge(manifest, store.on_file(), what or (), database)
    if not as_json:
        _print(verdicts, "Every contract is there.", looked=database is not None)
    made = store.texts(manifest, verdicts, breaking.strip())
    overwrite({path: text for path, text in made.items() if text is not None}, PROJECT)
    for path in (path for path, text in made.items() if text is None):
        (PROJECT / path).unlink()
    if as_json:
        output.json([{"file": path, "gone": text is None} for path, text in made.items()])
    elif made:
        output.line(f"{plural(len(made), 'file')} written to {store.FOLDER}/: commit them.")


@contracts.command(
    "import", epilog="Examples: granary contracts import billing.odcs.yaml billing postgresql://db.example/billing"
)
def take(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The contract that the source's owner gave.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The source: a new one, or one of the project.")],
    where: Annotated[
        str | None, typer.Argument(metavar="WHERE", help="Of a new source: where it is, as for `granary add-source`.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the files, write nothing.")] = False,
) -> None:
    """Take over what the owner of a source promises: make a source by it, or compare one that is there.

    Of a new source, a sample is looked at as by `granary add-source`; types, keys, bounds, lists of values and
    descriptions are those of the contract. Of one that is there, every difference is a line, and the exit code is 1.
    """
    from granary.scaffold import agreed
    from granary.scaffold.inspection import inspect_source
    from granary.scaffold.write import files, write
    from granary.sources.discovery import BROKEN, SOURCES

    tables = agreed.read(file)
    for table in tables.values():
        for note in table.notes:
            output.line(f"{table.name}: {note}")
    if name in BROKEN:
        raise BROKEN[name]
    if name in SOURCES:
        if where is not None:
            raise typer.BadParameter(f"{name} is there already: leave WHERE out to compare it with the contract")
        if found := agreed.differences(SOURCES[name], tables):
            for line in found:
                output.line(line)
            raise GranaryError(f"{name} is not as agreed in {len(found)} points", f"ingestion/{name}.py")
        output.line(f"ingestion/{name}.py says what is agreed.")
        return
    if where is None:
        raise typer.BadParameter(f"there is no source {name!r} yet: say WHERE it is")
    settings = Settings.load()
    keys = {one: table.key for one, table in tables.items() if table.key}
    planned = inspect_source(name, where, only=tuple(tables), keys=keys, agreed=tables)
    if dry_run:
        output.files(files(planned))
        return
    written = write(planned, PROJECT, settings.home, force=False)
    output.planned(planned)
    output.line(f"{plural(len(written), 'file')} written. Next: granary load {name}")


@contextmanager
def _database(settings: Settings) -> Iterator[Connection | None]:
    """Give the warehouse if it is up: a check of files starts no server."""
    from granary.warehouse import server
    from granary.warehouse.connection import connect

    if not server.running(settings):
        yield None
        return
    with connect(settings) as connection:
        yield connection


def _print(verdicts: Sequence[Verdict], nothing: str, *, looked: bool) -> None:
    if not verdicts:
        output.line(nothing)
    for one in verdicts:
        becomes = "gone" if not one.becomes else one.becomes
        output.line(f"{one.mart}: {one.kind} ({one.version or 'no contract'} -> {becomes})")
        for change in one.changes:
            due = f", promised until {change.until}" if change.until else ""
            output.line(f"  {change.kind}: {change.what}{due}")
        for user in one.users:
            output.line(f"  used by {user.kind} {user.name}" + (f" ({user.owner})" if user.owner else ""))
    if not looked and any(one.kind == "breaking" for one in verdicts):
        output.line("The warehouse is down, so nobody's views were looked at.")
