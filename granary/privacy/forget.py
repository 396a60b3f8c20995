"""`granary forget`: erase a household, have the marts follow, and say when nothing of it is left.

1. One transaction takes it out of raw, snapshots, quarantine and profiles, and keeps its hash (see erasure).
2. The hash goes into the list beside the database.
3. dbt builds, audits and publishes what the erasure touched, as after a load.
4. Every column with households is looked through; the tables are vacuumed; the erasure is finished.

Each step finds out by itself what is left to do, so a run that was killed is finished by the next one.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granary.dbt import manifest as dbt_manifest
from granary.dbt.failures import problems_of
from granary.dbt.nodes import is_mart, meta, published, relation, schemas
from granary.dbt.personal import tier
from granary.privacy import erasure, locator
from granary.privacy import filter as seam
from granary.privacy.erasure import Total
from granary.privacy.locator import Map, Mart, Place
from granary.privacy.suppression_list import canonical, enlist, forgotten, keep_key, key_of, new_key
from granary.sources.capture import changes_table
from granary.sources.discovery import BROKEN, SOURCES
from granary.warehouse import server
from granary.warehouse.connection import Connection, columns_of, connect, execute, query, quote_relation
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import reached

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from granary.privacy.suppression_list import Key
    from granary.sources.spec import Table
    from granary.warehouse.settings import Settings

SUBJECT = "household"
"""What contracts, and the `meta` of models' columns, say of a household's number."""
Builder = Callable[["Settings"], None]


@dataclass(frozen=True)
class Forgotten:
    """What an erasure did.

    `totals` are what was taken from each relation, of marts by month; `left` the relations that still have the
    household. `elsewhere` are those with its number in a column that is called like one with households, and that
    nothing declares: their owners have to see to them.
    """

    erasures: tuple[int, ...]
    known_before: bool
    finished: bool
    totals: tuple[Total, ...]
    left: tuple[str, ...]
    elsewhere: tuple[str, ...]


def look(settings: Settings, household: str) -> tuple[Total, ...]:
    """Return what would be taken out: the erasure is done, and rolled back.

    Raises:
        GranaryError: the warehouse has nothing of the household.
    """
    server.prepare(settings)
    where = map_of(settings)
    with closing(erasure.begin(settings, where)) as connection:
        forgotten(connection, settings)
        key = key_of(settings) or new_key()
        return _erase(connection, where, key, canonical(household), None)


def forget(
    settings: Settings, household: str | None, *, reason: str | None = None, build: Builder | None = None
) -> Forgotten:
    """Forget a household, and finish what earlier erasures have left; with None only that (`--again`).

    Raises:
        GranaryError: the warehouse has nothing of the household and has not forgotten it, or the build failed.
    """
    server.prepare(settings)  # a dump that was restored may be of an earlier version
    where = map_of(settings)
    with closing(erasure.begin(settings, where)) as connection:
        forgotten(connection, settings)  # raises if there is a key that is not here: a new one would forget nobody else
        key = key_of(settings) or new_key()
        erasure.restore(settings, connection)
        known = None if household is None else _known(connection, key, household)
        totals: tuple[Total, ...] = ()
        if household is not None:
            totals = _erase(connection, where, key, canonical(household), reason)
        totals += _erase_again(connection, where, key)
        keep_key(settings, key)
        reached("forget-before-commit")
        connection.commit()
    reached("forget-erased")
    with connect(settings, role="eraser") as connection:
        enlist(settings, connection)
    reached("forget-listed")
    return _finish(settings, where, key, totals, build or publish, known_before=bool(known))


def _known(connection: Connection, key: Key, household: str) -> bool:
    return bool(query(connection, "select 1 from ops.erasures where subject = $1", key.subject(household)))


def _erase(connection: Connection, where: Map, key: Key, household: str, reason: str | None) -> tuple[Total, ...]:
    """Take one household out; raises if there is nothing of it and never was."""
    known = _known(connection, key, household)
    erasure_id = erasure.register(connection, key, key.subject(household), reason)
    at_work = erasure.Erasing(connection, where)
    at_work.household(household, erasure_id)
    if at_work.taken:
        erasure.reopen(connection, erasure_id)
    elif not known:
        connection.rollback()
        raise GranaryError("there is no such household", "the warehouse", "see household_id in marts.dim_household")
    return tuple(at_work.totals)


def _erase_again(connection: Connection, where: Map, key: Key) -> tuple[Total, ...]:
    """Take out every household that was forgotten and is there again, after an older dump was restored."""
    rows = query(connection, "select subject from ops.erasures where key_mark = $1", key.mark)
    subjects = {str(row[0]) for row in rows}
    back = locator.present(connection, key, where, (*where.raw, *where.kept), subjects)
    totals: tuple[Total, ...] = ()
    for numbers in back.relations.values():
        for household in numbers:
            totals += _erase(connection, where, key, household, None)
    return totals


def _finish(
    settings: Settings, where: Map, key: Key, totals: tuple[Total, ...], build: Builder, *, known_before: bool
) -> Forgotten:
    with connect(settings, role="eraser") as connection:
        rows = query(
            connection,
            "select erasure_id, subject from ops.erasures where finished_at is null and key_mark = $1 order by 1",
            key.mark,
        )
    unfinished = {str(subject): int(number) for number, subject in rows}
    ours, elsewhere = _left(settings, where, key, unfinished)
    if ours:
        build(settings)
        reached("forget-built")
        where = map_of(settings)
        ours, elsewhere = _left(settings, where, key, unfinished)
    if unfinished and not ours:
        erasure.vacuum(settings, where.places)
        with connect(settings, role="eraser") as connection:
            execute(
                connection,
                "update ops.erasures set finished_at = clock_timestamp()"
                " where erasure_id = any($1::bigint[]) and finished_at is null",
                list(unfinished.values()),
            )
            connection.commit()
    return Forgotten(tuple(unfinished.values()), known_before, not ours, totals, ours, elsewhere)


def _left(
    settings: Settings, where: Map, key: Key, unfinished: Mapping[str, int]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the relations that still have one of these households: those that are declared, and others."""
    if not unfinished:
        return (), ()
    with connect(settings, role="eraser") as connection:
        ours = locator.present(connection, key, where, where.places, set(unfinished))
        others = locator.holding(connection, key, _undeclared(settings, connection, where), set(unfinished))
    left, elsewhere = (
        {name for numbers in found.relations.values() for relations in numbers.values() for name in relations}
        for found in (ours, others)
    )
    return tuple(sorted(left)), tuple(sorted(elsewhere))


def _undeclared(settings: Settings, connection: Connection, where: Map) -> list[Place]:
    """Return columns that are called like one with households, and of which nothing says what they are.

    A column of a contract or a model says it by having no subject, unless it is a personal one of a model, which may
    lack it by mistake.
    """
    names = frozenset().union(*where.names.values())
    said = {(f"raw_{source}.{table.name}", column.name) for source, table in _tables() for column in table.columns}
    said |= {
        (f"{schema}.{_table(node)}", name)
        for node in _nodes(settings)
        for schema in schemas(node)
        for name, column in node["columns"].items()
        if not tier(column)
    }
    known = set(where.places)
    return [
        place
        for place in locator.table_columns(connection)
        if place.column in names and place not in known and (place.name, place.column) not in said
    ]


# -- where households are ------------------------------------------------------------------------------------


def _manifest(settings: Settings) -> Mapping[str, Any]:
    return dbt_manifest.load(dbt_manifest.prepare(settings))


def _nodes(settings: Settings) -> list[Mapping[str, Any]]:
    return [node for node in _manifest(settings)["nodes"].values() if node["resource_type"] != "test"]


def map_of(settings: Settings) -> Map:
    """Return where households are, by the contracts of the sources and the models of dbt's project.

    Raises:
        GranaryError: a source's module cannot be used, so that nobody knows where in its tables they are.
    """
    for error in BROKEN.values():
        raise error
    nodes = _nodes(settings)
    names = {f"raw_{source}.{table.name}": seam.names_of(table) for source, table in _tables()}
    for node in nodes:
        for place in _places(node):
            names[place.name] = names.get(place.name, frozenset()) | {place.column}
    with connect(settings, role="eraser") as connection:
        known = {(place.name, place.column) for place in locator.table_columns(connection)}

        def there(places: Iterator[Place]) -> tuple[Place, ...]:
            return tuple(sorted({place for place in places if (place.name, place.column) in known}, key=str))

        return Map(
            raw=there(
                Place(f"raw_{source}", table.name, column)
                for source, table in _tables()
                for column in seam.columns_of(table)
            ),
            keys_before=there(
                Place(f"raw_{source}", table.name, seam.KEY_BEFORE)
                for source, table in _tables()
                if seam.columns_of(table) and any(column.name == seam.KEY_BEFORE for column in table.columns)
            ),
            kept=there(place for node in nodes if _stays(node) for place in _places(node)),
            built=there(place for node in nodes if not _stays(node) for place in _places(node)),
            marts=tuple(mart for node in nodes if is_mart(node) for mart in _mart(connection, node)),
            names={relation: found for relation, found in names.items() if found},
            judge=seam.verdict,
            numbers=seam.numbers,
            blank=seam.BLANK,
            sources=frozenset(SOURCES),
        )


def _tables() -> Iterator[tuple[str, Table]]:
    """Yield every raw table that the sources declare, change tables too."""
    for source in SOURCES.values():
        for table in source.tables:
            yield source.name, table
            if source.capture:
                yield source.name, changes_table(table)


def _stays(node: Mapping[str, Any]) -> bool:
    """Return whether a node's rows stay, whatever is built: snapshots, and tables that are only appended to."""
    config = node["config"]
    appended = config.get("materialized") == "incremental" and config.get("incremental_strategy") == "append"
    return bool(node["resource_type"] == "snapshot" or appended)


def _table(node: Mapping[str, Any]) -> str:
    return relation(node).partition(".")[2]


def _places(node: Mapping[str, Any]) -> Iterator[Place]:
    """Yield the columns of a node that hold households, in every schema that has its rows."""
    for schema in schemas(node):
        for name, column in node["columns"].items():
            if meta(column).get("subject") == SUBJECT:
                yield Place(schema, _table(node), name, meta(column).get("subject_where", "true"))


def _mart(connection: Connection, node: Mapping[str, Any]) -> Iterator[Mart]:
    """Yield a published mart that has households, with what the restatement ledger adds up of it (publish* of the dbt package)."""
    schema, _, table = published(node).partition(".")
    kinds = columns_of(connection, quote_relation(schema, table))
    more = meta(node)
    measured = [name for name, kind in kinds.items() if kind == "numeric(12,2)" or name in more.get("measures", ())]
    day = more.get("business_date") or ("business_date" if "business_date" in kinds else "cast(null as date)")
    for place in _places(node):
        if place.schema == schema and place.column in kinds:
            yield Mart(place, day, tuple(measured))


# -- the marts follow ----------------------------------------------------------------------------------------


def publish(settings: Settings) -> None:
    """Build, audit and publish what an erasure touched, by dbt, as any run does.

    Raises:
        GranaryError: something failed; the erasure is not finished, and people still read the marts as they were.
    """
    manifest = _manifest(settings)
    target = _target(settings)
    with dbt_manifest.building(settings):
        done = subprocess.run(
            [
                *(*dbt_manifest.DBT, "build", "--exclude-resource-type", "unit_test"),
                *("--vars", json.dumps(dbt_manifest.INCREMENTAL_VARS)),
            ],
            cwd=dbt_manifest.PROJECT_DIR,
            env=dbt_manifest.environment(settings, target) | {"GRANARY_ERASING": "yes"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            problems, _ = problems_of(target, manifest)
            raise GranaryError(
                f"the household is out of raw, and the marts do not follow: {problems[0].what}",
                str(target),
                "fix that and run this again: until then people still read the marts as they were",
            )


def _target(settings: Settings) -> Path:
    """Return a folder for dbt's output, with the parsed project in it."""
    home = dbt_manifest.folder(settings)
    target = home / "forget"
    target.mkdir(parents=True, exist_ok=True)
    (target / "run_results.json").unlink(missing_ok=True)
    if (home / dbt_manifest.PARTIAL_PARSE).exists():
        shutil.copy(home / dbt_manifest.PARTIAL_PARSE, target)
    return target
