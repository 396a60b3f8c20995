"""Adds to a source that is there: tables that it has no module for yet, and columns that its tables have gained.

Files that a person may have edited are changed where something is added and nowhere else.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from granary.scaffold import dbt, source
from granary.scaffold.python_text import Group, layout
from granary.sources.config import setting
from granary.sources.spec import Source
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.scaffold.plan import PlannedColumn, PlannedSource, PlannedTable
    from granary.warehouse.settings import Settings

BY_HAND = "add it by hand, or write all of the source anew with --force"


@dataclass(frozen=True)
class Additions:
    """What a source has that its module does not: tables, and columns by table."""

    planned: PlannedSource
    """The source as it was found, with all of its tables."""
    tables: tuple[PlannedTable, ...]
    columns: Mapping[str, tuple[PlannedColumn, ...]]


def place(there: Source, settings: Settings) -> str:
    """Return where a source is read from, as its settings say.

    Raises:
        GranaryError: that is not one place that could be looked at again.
    """
    if there.stream and not there.settings:
        return setting(settings, there.stream.address)
    if there.kind == "api" or len(there.settings) != 1:
        raise GranaryError(f"where {there.name} is read from is more than one setting", todo="say it: WHERE")
    return setting(settings, there.settings[0])


def additions(planned: PlannedSource, there: Source, settings: Settings) -> Additions:
    """Return what was found at a source and is not in its module.

    Raises:
        GranaryError: what was looked at is another place than the one that the source is read from.
    """
    for name, value in planned.opening.settings.items():
        if (
            name not in (*there.settings, there.stream.address if there.stream else "")
            or setting(settings, name) != value
        ):
            what = f"the source {there.name} is read from another place"
            raise GranaryError(what, name, "choose another name for this one, or write it anew with --force")
    known = {table.name: table for table in there.tables}
    places = {table.location for table in there.tables}
    new = tuple(table for table in planned.tables if table.name not in known and table.location not in places)
    columns = {}
    for table in planned.tables:
        if table.name in known:
            taken = {name for column in known[table.name].columns for name in (column.name, *column.aliases)}
            found = [column for column in table.columns if not {column.name, column.header} & taken]
            if found:
                columns[table.name] = tuple(_later(column) for column in found)
    return Additions(planned, new, columns)


def _later(column: PlannedColumn) -> PlannedColumn:
    """Return a column that earlier deliveries and rows do not have."""
    return replace(column, required=False, optional=True)


def files(found: Additions, there: Source, project: Path, *, with_columns: bool) -> dict[str, str]:
    """Return the files that change or come: path below the project -> content.

    Raises:
        GranaryError: a file is not written as it would have to be to be added to.
    """
    name = there.name
    columns = found.columns if with_columns else {}
    folder = f"models/staging/{name}"
    contents = {}
    for table in found.tables:
        stem = f"{folder}/stg_{name}__{table.name}"
        contents[f"{stem}.sql"] = dbt.staging_sql(found.planned, table)
        contents[f"{stem}.yml"] = dbt.staging_yaml(found.planned, table)
    for table_name, new in columns.items():
        stem = f"{folder}/stg_{name}__{table_name}"
        contents[f"{stem}.sql"] = _staged(_read(project, f"{stem}.sql"), new, f"{stem}.sql")
        contents[f"{stem}.yml"] = _described(new, _read(project, f"{stem}.yml"), f"{stem}.yml")
    path = f"{folder}/_{name}__sources.yml"
    text = _read(project, path)
    for table_name, new in columns.items():
        text = _listed(table_name, new, text, path)
    contents[path] = _declared(found, text, path) if found.tables else text
    if found.tables:
        path = f"tests/dbt/raw_{name}_reconciles_with_ledger.sql"
        if test := dbt.reconciliation(_whole(found, there)):
            contents[path] = test
    path = f"ingestion/{name}.py"
    contents[path] = _module(found, columns, _read(project, path), path)
    _check(contents[path], found, columns, there, path)
    return contents


def _read(project: Path, path: str) -> str:
    try:
        return (project / path).read_text(encoding="utf-8")
    except OSError as error:
        raise GranaryError(f"the file cannot be read: {error.strerror}", path, BY_HAND) from None


def _whole(found: Additions, there: Source) -> PlannedSource:
    """Return the source with the tables that were there, as far as the test of its ledger needs them."""
    mine = tuple(replace(found.tables[0], name=table.name, disposition=table.disposition) for table in there.tables)
    return replace(found.planned, tables=(*mine, *found.tables))


def _staged(text: str, columns: Sequence[PlannedColumn], path: str) -> str:
    mark = "    _load_id as load_id,"
    if text.count(mark) != 1:
        raise GranaryError("the columns of the load do not end the query", path, BY_HAND)
    lines = "".join(f"    {line},\n" for column in columns for line in dbt.staged(column))
    return text.replace(mark, f"{lines}{mark}")


def _described(columns: Sequence[PlannedColumn], text: str, path: str) -> str:
    mark = "      - name: load_id\n"
    if text.count(mark) != 1:
        raise GranaryError("the columns of the load are not described last", path, BY_HAND)
    entries = [one for column in columns for one in dbt.described(column)]
    text = text.replace(mark, f"{_indented(entries, 6)}{mark}")
    return _parsed(text, path)


def _listed(table: str, columns: Sequence[PlannedColumn], text: str, path: str) -> str:
    """Return the sources YAML with more columns of a table."""
    before, name, after = text.partition(f"      - name: {table}\n")
    mark = "          - name: _load_id\n"
    if not name or mark not in after:
        raise GranaryError(f"the table {table} is not declared with the columns of its load last", path, BY_HAND)
    entries = _indented([dbt.source_column(column) for column in columns], 10)
    return _parsed(f"{before}{name}{after.replace(mark, entries + mark, 1)}", path)


def _declared(found: Additions, text: str, path: str) -> str:
    entries = [dbt.source_table(table) for table in found.tables]
    text = _parsed(f"{text.rstrip()}\n{_indented(entries, 6)}", path)
    named = [table["name"] for one in yaml.safe_load(text)["sources"] for table in one.get("tables", ())]
    if not {table.name for table in found.tables} <= set(named):
        raise GranaryError("the tables do not end the file", path, BY_HAND)
    return text


def _indented(entries: Sequence[Any], indent: int) -> str:
    return "".join(f"{' ' * indent}{line}\n" for line in dbt.dump(list(entries)).splitlines())


def _parsed(text: str, path: str) -> str:
    try:
        yaml.safe_load(text)
    except yaml.YAMLError:
        raise GranaryError("the file is not laid out as it was written", path, BY_HAND) from None
    return text


def _module(found: Additions, columns: Mapping[str, Sequence[PlannedColumn]], text: str, path: str) -> str:
    """Return the source's module with more tables and columns; from the end to the beginning, so that lines hold."""
    lines, tree = text.splitlines(), ast.parse(text)
    calls = {
        node.targets[0].id: (node, node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.Call)
    }
    if "SOURCE" not in calls:
        raise GranaryError("the module has no SOURCE of its own", path, BY_HAND)
    edits: list[tuple[int, int, list[str]]] = []
    statement, call = calls["SOURCE"]
    formats = found.planned.opening.formats
    if found.tables and found.planned.opening.topics:
        raise GranaryError(f"the topics of the source lack {found.tables[0].location}", path, BY_HAND)
    if found.tables:
        told = [table.name for table in found.tables for one in formats if one.head.startswith(f'"{table.name}"')]
        if told:
            raise GranaryError(f"the files of {told[0]} need an entry of their own in FORMATS", path, BY_HAND)
        names = source.constants(found.planned)
        listed = _keyword(call, "tables", path)
        kept = [ast.get_source_segment(text, one) or "" for one in listed.elts]
        whole = Group("", (*kept, *(names[table.name] for table in found.tables)))
        edits.append((listed.lineno, listed.end_lineno or 0, layout(whole, "tables=", ",", 4)))
        new = [line for table in found.tables for line in (*source.constant(table, names[table.name]), "")]
        edits.append((statement.lineno, statement.lineno - 1, new))
        missing = [one for one in found.planned.opening.imports if one not in text]
        if missing:
            raise GranaryError(f"the module lacks {missing[0]!r}", path, BY_HAND)
    for name, added in columns.items():
        of_table = [one for _, one in calls.values() if _named(one) == name]
        if len(of_table) != 1:
            raise GranaryError(f"the module has no constant for the table {name}", path, BY_HAND)
        listed = _keyword(of_table[0], "columns", path)
        kept = [f"        {ast.get_source_segment(text, one)}," for one in listed.elts]
        more = [line for column in added for line in layout(source.column(column), "", ",", 8)]
        edits.append((listed.lineno, listed.end_lineno or 0, ["    columns=(", *kept, *more, "    ),"]))
    for first, last, instead in sorted(edits, reverse=True):
        lines[first - 1 : last] = instead
    return "\n".join(lines) + "\n"


def _named(call: ast.Call) -> str:
    value = next((one.value for one in call.keywords if one.arg == "name"), None)
    return str(value.value) if isinstance(value, ast.Constant) else ""


def _keyword(call: ast.Call, name: str, path: str) -> ast.Tuple:
    value = next((one.value for one in call.keywords if one.arg == name), None)
    if not isinstance(value, ast.Tuple):
        raise GranaryError(f"{name} is no tuple there", path, BY_HAND)
    return value


def _check(
    text: str, found: Additions, columns: Mapping[str, Sequence[PlannedColumn]], there: Source, path: str
) -> None:
    """Import the module as it would be: it has what it had, and what was added."""
    space: dict[str, Any] = {"__name__": f"ingestion.{there.name}"}
    try:
        exec(compile(text, path, "exec"), space)  # noqa: S102 - the person's own module, and literals
        made = space["SOURCE"]
    except Exception as error:
        raise GranaryError(f"the module would not work: {error}", path, BY_HAND) from error
    had = {table.name: {column.name for column in table.columns} for table in there.tables}
    wanted = {name: known | {column.name for column in columns.get(name, ())} for name, known in had.items()}
    wanted |= {table.name: {column.name for column in table.columns} for table in found.tables}
    if {table.name: {column.name for column in table.columns} for table in made.tables} != wanted:
        raise GranaryError("the module would have other tables", path, BY_HAND)
