"""Takes a source out of a project: its files, its raw tables and what the warehouse keeps of it.

The warehouse comes first, in one transaction, and the source's module last: what is broken off is done by running it
again.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granary.dbt.manifest_nodes import schemas
from granary.sources.config import FILE
from granary.warehouse.connection import connect, execute, lock, query, quote_name, quote_relation
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from granary.sources.spec import Source
    from granary.warehouse.settings import Settings

PATIENCE_SECONDS = 30
OF_SOURCE = """
    select columns.table_name
    from information_schema.columns as columns
    inner join information_schema.tables as tables using (table_schema, table_name)
    where columns.table_schema = 'ops' and columns.column_name = 'source' and tables.table_type = 'BASE TABLE'
    order by columns.table_name
"""


@dataclass(frozen=True)
class Removal:
    """What is to go: a source, its staging models, and the models that are made from them."""

    source: Source
    models: tuple[Mapping[str, Any], ...]
    dependents: tuple[Mapping[str, Any], ...]

    @property
    def nodes(self) -> tuple[Mapping[str, Any], ...]:
        """Every model that goes."""
        return (*self.models, *self.dependents)


def plan(manifest: Mapping[str, Any], source: Source) -> Removal:
    """Return what a source's removal takes with it.

    Raises:
        GranaryError: changes are captured from it, so that its origin keeps a slot for it.
    """
    if source.capture:
        todo = (
            f"remove its slot there first: `granary capture {source.name} --drop`, and take `capture` out of its module"
        )
        raise GranaryError(f"changes are captured from {source.name}", todo=todo)
    waiting = [key for key, one in manifest["sources"].items() if one["source_name"] == source.name]
    seen: set[str] = set()
    while waiting:
        for child in manifest["child_map"].get(waiting.pop(), ()):
            if child not in seen:
                seen.add(child)
                waiting.append(child)
    nodes = [one for key, one in manifest["nodes"].items() if key in seen and one["resource_type"] != "test"]
    mine = f"models/staging/{source.name}/"
    return Removal(
        source,
        tuple(node for node in nodes if node["original_file_path"].startswith(mine)),
        tuple(node for node in nodes if not node["original_file_path"].startswith(mine)),
    )


def from_warehouse(settings: Settings, removal: Removal) -> None:
    """Drop the raw tables and the models, and delete what ops keeps of them, in one transaction.

    Raises:
        LockHeldError: the source is being loaded.
    """
    name = removal.source.name
    with connect(settings) as connection:
        lock(connection, f"load.{name}", PATIENCE_SECONDS)
        for node in removal.nodes:
            for schema in schemas(node):
                relation = quote_relation(schema, str(node["alias"]))
                kinds = query(connection, "select relkind::text from pg_class where oid = to_regclass($1)", relation)
                for (kind,) in kinds:
                    execute(connection, f"drop {'view' if kind == 'v' else 'table'} {relation} cascade")
        execute(connection, f"drop schema if exists {quote_name(f'raw_{name}')} cascade")
        for (table,) in query(connection, OF_SOURCE):
            execute(connection, f"delete from {quote_relation('ops', str(table))} where source = $1", name)
        # What waits for a model that is gone would wait for ever, and one of its name later is another one.
        for table, column, values in (
            ("publish_holds", "node", [str(node["unique_id"]) for node in removal.nodes]),
            ("unpublished", "mart", [str(node["alias"]) for node in removal.nodes]),
            ("published_months", "mart", [str(node["alias"]) for node in removal.nodes]),
            ("published_marts", "mart", [str(node["alias"]) for node in removal.nodes]),
        ):
            if query(connection, "select to_regclass($1) is not null", f"ops.{table}") == [(True,)]:
                execute(connection, f"delete from ops.{table} where {column} = any($1::text[])", values)
        connection.commit()


def files(removal: Removal, project: Path) -> list[str]:
    """Return the files that go, below the project, the source's module last."""
    name = removal.source.name
    found = [f"tests/dbt/raw_{name}_reconciles_with_ledger.sql", f"connectors/{name}.json"]
    for node in removal.dependents:
        path = str(node["original_file_path"])
        found += [path, f"{path.rpartition('.')[0]}.yml"]
    folder = project / "models/staging" / name
    found += sorted(str(path.relative_to(project)) for path in folder.rglob("*") if path.is_file())
    return [*(path for path in dict.fromkeys(found) if (project / path).is_file()), f"ingestion/{name}.py"]


def from_project(removal: Removal, project: Path, home: Path, paths: Sequence[str]) -> None:
    """Delete the source's settings and these files."""
    settings = home / FILE
    mine = set(removal.source.settings)
    if settings.exists():
        lines = settings.read_text().splitlines(keepends=True)
        kept = [line for line in lines if line.partition("=")[0].strip() not in mine]
        fresh = settings.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text("".join(kept))
        fresh.replace(settings)
    for path in paths:
        (project / path).unlink(missing_ok=True)
    shutil.rmtree(project / "models/staging" / removal.source.name, ignore_errors=True)
