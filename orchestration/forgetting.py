"""`granary forget`: erase a household, have the marts follow, and say when nothing of it is left.

1. One transaction takes it out of raw, snapshots, quarantine and profiles, and keeps its hash (warehouse.erasing).
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

from ingestion import forgetting as seam
from ingestion.cdc.spec import changes_table
from ingestion.sources import SOURCES
from orchestration import manifest as dbt_manifest
from orchestration.failures import problems_of
from orchestration.nodes import is_mart, meta, published, relation, schemas
from warehouse import erasing, households, server
from warehouse.connection import Connection, columns_of, connect, execute, query, quote_relation
from warehouse.erasing import Total
from warehouse.errors import GranaryError
from warehouse.faults import reached
from warehouse.forgotten import canonical, enlist, forgotten, keep_key, key_of, new_key
from warehouse.households import Map, Mart, Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ingestion.spec import Table
    from warehouse.forgotten import Key
    from warehouse.settings import Settings

HOUSEHOLD_ID = "household_id"
"""What dbt models call a household's number (DESIGN, section 6), whatever a source does."""
Builder = Callable[["Settings"], None]


@dataclass(frozen=True)
class Forgotten:
    """What an erasure did.

    `totals` are what was taken from each relation, of marts by month; `left` the relations that still have the
    household, `elsewhere` those of them that nobody here fills: their owners have to see to them.
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
    with closing(erasing.begin(settings, where)) as connection:
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
    with closing(erasing.begin(settings, where)) as connection:
        forgotten(connection, settings)  # raises if there is a key that is not here: a new one would forget nobody else
        key = key_of(settings) or new_key()
        erasing.restore(settings, connection)
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
    erasure_id = erasing.register(connection, key, key.subject(household), reason)
    at_work = erasing.Erasing(connection, where)
    at_work.household(household, erasure_id)
    if at_work.taken:
        erasing.reopen(connection, erasure_id)
    elif not known:
        connection.rollback()
        raise GranaryError("there is no such household", "the warehouse", "see household_id in marts.dim_household")
    return tuple(at_work.totals)


def _erase_again(connection: Connection, where: Map, key: Key) -> tuple[Total, ...]:
    """Take out every household that was forgotten and is there again, after an older dump was restored."""
    rows = query(connection, "select subject from ops.erasures where key_mark = $1", key.mark)
    subjects = {str(row[0]) for row in rows}
    back = households.present(connection, key, (*where.raw, *where.kept), subjects, where)
    totals: tuple[Total, ...] = ()
    for numbers in back.values():
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
        with connect(settings, role="eraser") as connection:
            places = households.places_named(connection, where.names)
        erasing.vacuum(settings, [place for place in places if _is_ours(settings, place.schema)])
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
    """Return the relations that still have one of these households: those that are filled here, and people's own."""
    if not unfinished:
        return (), ()
    with connect(settings, role="eraser") as connection:
        places = {*households.places_named(connection, where.names), *where.kept}
        found = households.present(connection, key, sorted(places, key=str), set(unfinished), where)
    left = {name for numbers in found.values() for relations in numbers.values() for name in relations}
    ours = {name for name in left if _is_ours(settings, name.partition(".")[0])}
    return tuple(sorted(ours)), tuple(sorted(left - ours))


def _is_ours(settings: Settings, schema: str) -> bool:
    """Return whether dbt or the loaders fill a schema; others are people's own."""
    nodes = [node for node in _manifest(settings)["nodes"].values() if node["resource_type"] != "test"]
    return schema in {"ops", *(name for node in nodes for name in schemas(node))} or schema.startswith("raw_")


# -- where households are ------------------------------------------------------------------------------------


def _manifest(settings: Settings) -> Mapping[str, Any]:
    return dbt_manifest.load(dbt_manifest.prepare(settings))


def map_of(settings: Settings) -> Map:
    """Return where households are, by the contracts of the sources, dbt's project and the catalogue."""
    names = seam.known_names() | {HOUSEHOLD_ID}
    nodes = [node for node in _manifest(settings)["nodes"].values() if node["resource_type"] != "test"]
    with connect(settings, role="eraser") as connection:
        named = households.places_named(connection, names)
        declared = [place for place in _declared() if columns_of(connection, place.relation)]
        raw = {*declared, *(place for place in named if place.schema.startswith("raw_"))}
        kept = [place for node in nodes if _stays(node) for place in _places(node, names)]
        nested = list(_nested(connection))
        marts = [mart for node in nodes if is_mart(node) for mart in _mart(connection, node, names)]
        return Map(
            raw=tuple(sorted(raw, key=str)),
            nested=tuple(place for place in nested if place.column != seam.KEY_BEFORE),
            keys_before=tuple(place for place in nested if place.column == seam.KEY_BEFORE),
            kept=tuple(place for place in kept if columns_of(connection, place.relation)),
            marts=tuple(marts),
            names=names,
            judge=lambda payload, theirs: seam.verdict(payload, names, theirs),
            numbers=lambda payload: seam.numbers(payload, names),
            blank=seam.BLANK,
            sources=frozenset([*SOURCES, *(place.schema.removeprefix("raw_") for place in raw)]),
        )


def _tables() -> Iterator[tuple[str, Table]]:
    """Yield every raw table that the sources declare, change tables too."""
    for source in SOURCES.values():
        for table in source.tables:
            yield source.name, table
            if source.capture:
                yield source.name, changes_table(table)


def _declared() -> list[Place]:
    return [
        Place(f"raw_{source}", table.name, column) for source, table in _tables() for column in seam.columns_of(table)
    ]


def _nested(connection: Connection) -> Iterator[Place]:
    """Yield raw columns that may hold JSON: earlier keys of captured rows, and text that no contract names."""
    agreed = {
        (f"raw_{source}", table.name): {column.name for column in table.columns} - {seam.KEY_BEFORE}
        for source, table in _tables()
    }
    texts = (
        "select table_schema::text, table_name::text, column_name::text from information_schema.columns"
        " where table_schema like 'raw\\_%' and data_type in ('text', 'json', 'jsonb') order by 1, 2, 3"
    )
    for schema, table, column in query(connection, texts):
        if column not in agreed.get((schema, table), ()):
            yield Place(schema, table, column)


def _stays(node: Mapping[str, Any]) -> bool:
    """Return whether a node's rows stay, whatever is built: snapshots, and tables that are only appended to."""
    config = node["config"]
    appended = config.get("materialized") == "incremental" and config.get("incremental_strategy") == "append"
    return bool(node["resource_type"] == "snapshot" or appended)


def _places(node: Mapping[str, Any], names: frozenset[str]) -> Iterator[Place]:
    schema, _, table = relation(node).partition(".")
    for name, column in node["columns"].items():
        if condition := meta(column).get("household_where"):
            yield Place(schema, table, name, condition)
        elif name in names:
            yield Place(schema, table, name)


def _mart(connection: Connection, node: Mapping[str, Any], names: frozenset[str]) -> Iterator[Mart]:
    """Yield a published mart that has households, with what the restatement ledger adds up of it (macros/publish*)."""
    schema, _, table = published(node).partition(".")
    kinds = columns_of(connection, quote_relation(schema, table))
    more = meta(node)
    measured = [name for name, kind in kinds.items() if kind == "numeric(12,2)" or name in more.get("measures", ())]
    day = more.get("business_date") or ("business_date" if "business_date" in kinds else "cast(null as date)")
    for name in kinds:
        if name in names:
            yield Mart(Place(schema, table, name), day, tuple(measured))


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
            env=dbt_manifest.environment(settings, target),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            problems, _ = problems_of(target, manifest)
            raise GranaryError(
                f"the household is out of raw, and the marts do not follow: {problems[0].what}",
                str(target),
                "mend that and run this again: until then people still read the marts as they were",
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
