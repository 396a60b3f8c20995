"""Takes a profile: of a table of the warehouse or of a file, with what is personal in it left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from granary.dbt import manifest_nodes
from granary.dbt.tiers import tier
from granary.privacy.filter import KEY_BEFORE
from granary.profiling.drift import Move, drift
from granary.profiling.measure import profile_arrow, profile_loads, profile_relation
from granary.profiling.store import keep, previous
from granary.sources.capture import changes_table
from granary.warehouse.connection import connect, query

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from granary.profiling.profile import Profile
    from granary.warehouse.settings import Settings

KEPT_FROM_AUDITORS = """
    select attname from pg_attribute
    where
        attrelid = to_regclass($1) and attnum > 0
        and not has_column_privilege(ops.role_name('auditor'), attrelid, attnum, 'select')
"""


@dataclass(frozen=True)
class AllBut:
    """Every name but these."""

    names: frozenset[str]

    def __contains__(self, name: object) -> bool:
        """Whether it is none of them."""
        return name not in self.names


def take(settings: Settings, what: str) -> tuple[Profile, Profile | None, list[Move]]:
    """Profile a table or file, keep the profile, and compare it with the one before.

    Returns:
        The profile, the one before if there is one, and what moved.

    Raises:
        GranaryError: there is no such table or file.
    """
    path = Path(what).expanduser()
    if path.is_file():
        from granary.scaffold.files import read_whole

        found = profile_arrow(settings, read_whole(path), path.name)
    else:
        found = profile_relation(settings, what, personal_columns(settings, what))
    before = previous(settings, found.relation)
    keep(settings, found)
    return found, before, drift(before, found) if before else []


def compare_loads(settings: Settings, what: str) -> tuple[Profile, Profile, list[Move]]:
    """Compare the rows of a raw table's newest load with those that were there before it; nothing is kept.

    Returns:
        The profile of the newest load's rows, that of the rows before, and what is different; not that a load
        has fewer rows than all before it.
    """
    newest, before = profile_loads(settings, what, personal_columns(settings, what))
    moves = [move for move in drift(before, newest) if move.what not in ("rows", "distinct")]
    return newest, before, moves


def personal_columns(settings: Settings, relation: str) -> Container[str]:
    """Return the columns that are personal, or may be.

    Of a raw table those are all that its contract does not name without a tier: of others nobody has said. Of a record
    in `ops` they are what auditors may not read, and of dbt's relations what a tier is declared for.

    Raises:
        GranaryError: the source's module cannot be used, or dbt cannot parse the project, so that nobody knows what is
            personal.
    """
    schema, _, table = relation.partition(".")
    if schema.startswith("raw_"):
        return AllBut(_harmless(schema[4:], table))
    if schema == "ops":
        with connect(settings, role="transformer") as connection:
            return {str(name) for (name,) in query(connection, KEPT_FROM_AUDITORS, relation)}
    from granary.dbt import manifest

    found: Mapping[str, Any] = manifest.load(manifest.prepare(settings))["nodes"]
    return {
        name
        for node in found.values()
        if node["resource_type"] in ("model", "snapshot", "seed") and _is(node, schema, table)
        for name, column in node["columns"].items()
        if tier(column)
    }


def _harmless(source: str, table: str) -> frozenset[str]:
    """Return the columns that a raw table's contract names, and that have no tier."""
    from granary.sources.discovery import BROKEN, SOURCES

    if source in BROKEN:
        raise BROKEN[source]
    spec = SOURCES.get(source)
    if spec is None:
        return frozenset()
    declared = [*spec.tables, *(map(changes_table, spec.tables) if spec.is_captured else ())]
    columns = next((one.columns for one in declared if one.name == table), ())
    return frozenset(column.name for column in columns if not column.personal and column.name != KEY_BEFORE)


def _is(node: Mapping[str, Any], schema: str, table: str) -> bool:
    """Whether a node is a relation; a developer's schema has a prefix, so its end decides."""
    return str(node.get("alias") or node["name"]) == table and schema.endswith(manifest_nodes.schemas(node))
