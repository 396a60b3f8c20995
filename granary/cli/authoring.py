"""`granary add-source` and `granary profile`: from data that nobody knows to tables that are tested."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from granary.cli import output
from granary.cli.options import AsJson, ready
from granary.warehouse.project import PROJECT
from granary.warehouse.settings import Settings
from granary.warehouse.words import plural

if TYPE_CHECKING:
    from granary.scaffold.plan import PlannedSource
    from granary.sources.spec import Source


def register(app: typer.Typer) -> None:
    """Put these commands into the command."""
    app.command(
        "add-source",
        epilog="Examples: granary add-source bikes ~/exports --dry-run ·"
        " granary add-source flights ~/flights --null NA --key weather=origin,time_hour ·"
        " granary add-source shop postgresql://reader@db.example/shop --table orders --cursor updated_at ·"
        " granary add-source weather https://api.example/v1/days --key day ·"
        " granary add-source desk --singer tap-postgres --config desk.json ·"
        " granary add-source events 'kafka://broker:9092?format=avro&registry=http://registry:8081' --table clicks",
    )(add_source)
    app.command("remove-source", epilog="Example: granary remove-source bikes --with-dependents")(remove_source)
    app.command(
        "profile",
        epilog="Examples: granary profile marts.fct_orders · granary profile raw_shop.orders --json ·"
        " granary profile raw_shop.orders --load · granary profile ~/exports/rentals.csv",
    )(profile)


def add_source(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new source: lower case, such as bikes.")],
    where: Annotated[
        str | None,
        typer.Argument(
            metavar="[WHERE]",
            help="A file, a folder, a database or API URL, iceberg:PLACE, delta:PLACE, or a log's address; else where"
            " the source is.",
        ),
    ] = None,
    tables: Annotated[
        list[str] | None, typer.Option("--table", metavar="NAME", help="Only this table; may be repeated.")
    ] = None,
    keys: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="[TABLE=]COLUMN[,COLUMN]", help="What identifies a row; else it is found."),
    ] = None,
    cursors: Annotated[
        list[str] | None,
        typer.Option("--cursor", metavar="[TABLE=]COLUMN", help="When a row last changed; else it is guessed."),
    ] = None,
    nulls: Annotated[
        list[str] | None,
        typer.Option("--null", metavar="[TABLE=]WORD", help="A text that stands for no value; else they are found."),
    ] = None,
    auth: Annotated[
        str | None,
        typer.Option(
            metavar="HEADER", help="Send an API's key, from GRANARY_<NAME>_KEY, in this header, or as bearer."
        ),
    ] = None,
    singer: Annotated[
        str, typer.Option("--singer", metavar="TAP", help="Take the streams of a Singer tap, instead of WHERE.")
    ] = "",
    dlt: Annotated[
        str, typer.Option("--dlt", metavar="MODULE:FUNCTION", help="Likewise the resources of a dlt source.")
    ] = "",
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="The configuration of either, as JSON.")
    ] = None,
    subjects: Annotated[
        list[str] | None,
        typer.Option("--subject", metavar="NAME=COLUMN", help="Whose key a column is, such as customer=customer_id."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the files, write nothing.")] = False,
    columns: Annotated[
        bool, typer.Option("--columns", help="Also add columns that the source's tables have gained.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write all files of the source again, over the existing ones.")
    ] = False,
) -> None:
    """Look at a sample of a source, and write its loader, its staging models and their tests.

    To a source that is there, tables are added that it does not have yet; with --columns also columns. Nothing is
    loaded. Addresses and secrets go into the owner-only file .granary/sources.env, never into code.
    """
    from granary.scaffold import extend
    from granary.scaffold.inspection import inspect_source
    from granary.scaffold.subjects import declared, marked
    from granary.scaffold.write import files, leftovers, write

    settings = Settings.load()
    there = None if force else _there(name)
    said: dict[str, Any] = {
        "only": tuple(tables or ()),
        "keys": {table: tuple(column.split(",")) for table, column in _by_table(keys, "--key")},
        "cursors": dict(_by_table(cursors, "--cursor")),
        "words": _words(nulls),
    }
    if singer or dlt or config:
        if where or auth or config is None or bool(singer) == bool(dlt):
            raise typer.BadParameter("write --singer TAP --config FILE, or --dlt MODULE:FUNCTION --config FILE")
        from granary.scaffold import connectors

        planned = connectors.inspect(name, config, tap=singer, function=dlt, **said)
    else:
        if where is None:
            if there is None:
                raise typer.BadParameter(f"there is no source {name!r} yet: say WHERE it is")
            where = extend.place(there, settings)
        from granary.kinds import topics

        if topics.is_log(where):
            if auth or cursors or nulls:
                raise typer.BadParameter(
                    "a log's address takes --table TOPIC and --key, not --auth, --cursor or --null"
                )
            planned = topics.inspect(name, where, only=said["only"], keys=said["keys"])
        else:
            planned = inspect_source(name, where, header=auth, **said)
    planned, kinds = marked(planned, dict(_by_table(subjects, "--subject")))
    if there is not None:
        _extend(there, planned, settings, columns=columns, dry_run=dry_run)
        return
    if dry_run:
        output.files(files(planned))
        output.guesses(planned)
        output.line("Nothing was written (--dry-run).")
        return
    with declared(PROJECT, kinds):
        written = write(planned, PROJECT, settings.home, force=force)
    output.planned(planned)
    secrets = ", ".join(planned.opening.settings)
    output.line(
        f"{plural(len(written), 'file')} written{f', and {secrets} set in {settings.home}' if secrets else ''}."
    )
    for path in leftovers(planned, PROJECT):
        output.line(f"Left over from a table that is gone; delete it if it is not yours: {path}")
    output.line("Next:")
    output.line(f"  granary stream {name} --once" if planned.opening.topics else f"  granary load {name}")
    output.line(f"  dbt build --select staging.{name}")


def _there(name: str) -> Source | None:
    """Return the source of a name if the project has it."""
    from granary.sources.discovery import BROKEN, SOURCES

    if name in BROKEN:
        raise BROKEN[name]
    return SOURCES.get(name)


def _extend(there: Source, planned: PlannedSource, settings: Settings, *, columns: bool, dry_run: bool) -> None:
    """Add to a source what it has and its module does not."""
    from dataclasses import replace

    from granary.scaffold.extend import additions, files
    from granary.scaffold.write import overwrite

    found = additions(planned, there, settings)
    for table, new in found.columns.items():
        names = ", ".join(column.name for column in new)
        output.line(f"{table} has gained {names}{'' if columns else '; --columns adds that'}.")
    if not found.tables and not (columns and found.columns):
        output.line(f"Every table of {there.name} has been added already.")
        return
    contents = files(found, there, PROJECT, with_columns=columns)
    if dry_run:
        output.files(contents)
        output.line("Nothing was written (--dry-run).")
        return
    overwrite(contents, PROJECT)
    if found.tables:
        output.planned(replace(found.planned, tables=found.tables))
    output.line(f"{plural(len(contents), 'file')} written; their other lines are unchanged.")
    output.line("Next: `granary run`")


def remove_source(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A source of the project.")],
    with_dependents: Annotated[
        bool, typer.Option("--with-dependents", help="Remove the models that are made from it as well.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed, and remove nothing.")] = False,
) -> None:
    """Take a source out: its module, models and settings, its raw tables, and what the ledger keeps of it.

    It refuses where other models are made from it. The files are in the project's history; the rows have to be loaded
    again if it comes back.
    """
    from granary.dbt import manifest
    from granary.scaffold import remove
    from granary.warehouse.errors import GranaryError, unknown

    there = _there(name)
    if there is None:
        from granary.sources.discovery import SOURCES

        raise unknown("source", name, SOURCES)
    settings = ready()
    removal = remove.plan(manifest.load(manifest.prepare(settings)), there)
    if removal.dependents and not with_dependents:
        names = ", ".join(sorted(str(node["name"]) for node in removal.dependents))
        raise GranaryError(f"other models are made from {name}: {names}", todo="remove them too: --with-dependents")
    paths = remove.files(removal, PROJECT)
    if not dry_run:
        remove.from_warehouse(settings, removal)
        remove.from_project(removal, PROJECT, settings.home, paths)
    for path in paths:
        output.line(path)
    output.line(f"{name}: {len(paths)} files and the schema raw_{name} {'would go' if dry_run else 'are gone'}.")


def profile(
    what: Annotated[str, typer.Argument(metavar="TABLE", help="schema.table in the warehouse, or a file.")],
    as_json: AsJson = False,
    load: Annotated[
        bool, typer.Option("--load", help="Of a raw table only the newest load, compared with the rows before it.")
    ] = False,
    html: Annotated[bool, typer.Option("--html", help="Also write the page of all profiles.")] = False,
) -> None:
    """Show what a table holds: counts, nulls, distinct values, quantiles, common values, keys, and what moved.

    The profile is kept in ops.profiles; the next one of the table is compared with it. Of personal columns only counts
    are computed. The page of all profiles is part of `granary docs`.
    """
    from dataclasses import asdict

    from granary.cli.profile_tables import print_profile
    from granary.pages.profiles.page import write_page
    from granary.pages.profiles.run import compare_loads, take

    settings = ready()
    found, before, moves = compare_loads(settings, what) if load else take(settings, what)
    if as_json:
        output.json(found.to_json() | {"exact": found.exact, "drift": [asdict(move) for move in moves]})
    else:
        print_profile(found, moves, before, f"in load {found.load_id}, compared with all before it" if load else "")
    if html:
        page = write_page(settings, PROJECT / "target")
        if not as_json:
            output.line(f"Written: {page}")


def _words(given: list[str] | None) -> dict[str, tuple[str, ...]]:
    """Return the words that stand for no value by table, "" for all of them."""
    words: dict[str, tuple[str, ...]] = {}
    for text in given or []:
        table, separator, word = text.partition("=")
        table, word = (table, word) if separator and table else ("", text)
        words[table] = (*words.get(table, ()), word.strip())
    return words


def _by_table(given: list[str] | None, option: str) -> list[tuple[str, str]]:
    """Split TABLE=VALUE; without a table the value is for every one that has such columns."""
    pairs = []
    for text in given or []:
        table, separator, value = text.rpartition("=")
        if not value or (separator and not table):
            raise typer.BadParameter(f"{option} is written [TABLE=]COLUMN, not {text!r}")
        pairs.append((table, value))
    if len({table for table, _ in pairs}) != len(pairs):
        raise typer.BadParameter(f"{option} is given twice for one table")
    return pairs
