"""Whose keys the columns of a new source are: said in its contracts, and declared in dbt_project.yml."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import yaml

from granary.scaffold.names import SOURCE
from granary.scaffold.write import overwrite
from granary.sources import subjects
from granary.warehouse.errors import GranaryError, UsageError, unknown
from granary.warehouse.project import project_vars

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from granary.scaffold.plan import PlannedSource

FILE = "dbt_project.yml"
EMPTY, BEGUN = "  data_subjects: {}\n", "  data_subjects:\n"


def marked(planned: PlannedSource, columns: Mapping[str, str]) -> tuple[PlannedSource, dict[str, str]]:
    """Return the source with whose keys its columns are, and the type of key of each data subject.

    Args:
        planned: the source.
        columns: data subject -> the name of the column with its keys, in whatever table. The key of a table that such
            a column points to is one too.

    Raises:
        UsageError: a name cannot be a data subject's, or there is no such column.
    """
    subject_of = {column: subject for subject, column in columns.items()}
    kinds: dict[str, str] = {}
    for table in planned.tables:
        for column in table.columns:
            if subject := subject_of.get(column.name) or subject_of.get(column.header):
                whole = pa.types.is_integer(column.type)
                kinds[subject] = "number" if whole else "email" if "mail" in column.name else "uuid"
    for subject, column_name in columns.items():
        if SOURCE.fullmatch(subject) is None:
            raise UsageError(
                f"{subject[:60]!r} cannot be the name of a data subject", todo="write it as in customer=id"
            )
        if subject not in kinds:
            raise unknown("column", column_name, {one.name for table in planned.tables for one in table.columns})
    found = {
        (table.name, column): subject
        for table in planned.tables
        for column in table.columns
        if (subject := subject_of.get(column.name) or subject_of.get(column.header))
    }
    said = {(table, column.name): subject for (table, column), subject in found.items()}
    # The table that a key points to has the subject itself, whatever its own column is called: customers.id.
    pointed = {(at.table, at.column): subject for (_, column), subject in found.items() if (at := column.parent)}
    whose = pointed | said
    notes = [
        f"{table}.{column}: a {subject}'s key too, as others point to it"
        for (table, column), subject in pointed.items()
        if (table, column) not in said
    ]
    notes += [
        f"{table.name}: it has personal columns and no data subject's key, so `granary forget` does not reach it"
        for table in planned.tables
        if columns
        and any(column.personal for column in table.columns)
        and not any((table.name, column.name) in whose for column in table.columns)
    ]
    tables = tuple(
        replace(
            table,
            columns=tuple(
                replace(column, subject=whose[table.name, column.name], personal=column.personal or "pseudonym")
                if (table.name, column.name) in whose
                else column
                for column in table.columns
            ),
        )
        for table in planned.tables
    )
    return replace(planned, tables=tables, notes=(*planned.notes, *notes)), kinds


@contextmanager
def declared(project: Path, kinds: Mapping[str, str]) -> Iterator[None]:
    """Have these data subjects declared in the project; what fails within takes that back.

    Raises:
        GranaryError: one is declared with another type of key, or the file is laid out in another way.
    """
    known = project_vars().get("data_subjects") or {}
    for name, kind in kinds.items():
        if name in known and known[name].get("key") != kind:
            raise GranaryError(
                f"the keys of {name} are declared as {known[name].get('key')}, and these are {kind}", FILE
            )
    new = {name: kind for name, kind in kinds.items() if name not in known}
    if not new:
        yield
        return
    before = (project / FILE).read_text(encoding="utf-8")
    lines = "".join(f"    {name}: {{key: {kind}}}\n" for name, kind in new.items())
    text = before.replace(EMPTY if EMPTY in before else BEGUN, BEGUN + lines, 1)
    if not set(new) <= set((yaml.safe_load(text).get("vars") or {}).get("data_subjects") or {}):
        raise GranaryError("the vars have no data_subjects to add to", FILE, f"write {BEGUN.strip()} under vars")
    try:
        overwrite({FILE: text}, project)
        project_vars.cache_clear()
        subjects.declared.cache_clear()
        yield
    except BaseException:
        overwrite({FILE: before}, project)
        raise
