"""Where keys of data subjects are in the warehouse, by the contracts of the sources and the models of dbt's project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from granary.dbt import manifest as dbt_manifest
from granary.dbt.manifest_nodes import (
    BUILT,
    DELTA,
    FRESH,
    HISTORY,
    STREAM,
    has_delta,
    is_mart,
    meta,
    published,
    relation,
    schemas,
)
from granary.dbt.tiers import tier
from granary.privacy.filter import KEY_BEFORE, Names, columns_of, names_of
from granary.sources import subjects
from granary.sources.capture import changes_table
from granary.sources.discovery import BROKEN, SOURCES
from granary.warehouse import connection as warehouse
from granary.warehouse.connection import connect, query, quote_relation
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from granary.sources.spec import Table
    from granary.sources.subjects import Subject
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

COLUMNS = """
    select n.nspname::text, c.relname::text, a.attname::text
    from pg_class as c
    inner join pg_namespace as n on n.oid = c.relnamespace
    inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where c.relkind in ('r', 'm', 'p') and c.relpersistence = 'p' and not c.relispartition
        and n.nspname not in ('pg_catalog', 'information_schema')
    order by 1, 2, 3
"""
MEASURES = """
    select jsonb_object_keys(newest.measures)
    from (
        select months.measures
        from ops.published_months as months
        inner join ops.publishes as publishes on publishes.publish_id = months.publish_id
        where publishes.schema_name = $1 and months.mart = $2
        order by months.publish_id desc
        limit 1
    ) as newest
    order by 1
"""


@dataclass(frozen=True)
class Place:
    """A column that holds keys of a data subject; with `condition` (SQL), only in rows that meet it."""

    schema: str
    table: str
    column: str
    subject: Subject
    condition: str = "true"
    is_history: bool = False
    """Whether it has the rows that publishes changed."""
    is_stream: bool = False
    """Whether it has the rows that a stream computed."""

    @property
    def is_kept(self) -> bool:
        """Whether its rows stay, whatever is built."""
        return self.is_history or self.is_stream

    @property
    def relation(self) -> str:
        """The quoted relation."""
        return quote_relation(self.schema, self.table)

    @property
    def name(self) -> str:
        """The relation as people write it."""
        return f"{self.schema}.{self.table}"


@dataclass(frozen=True)
class Mart:
    """A published mart with a data subject: the expression of its business date, and what of it is added up."""

    place: Place
    day: str
    measures: tuple[str, ...]


@dataclass(frozen=True)
class Locations:
    """Where contracts and models say that data subjects are. A column that only has such a name is none of them.

    `raw` are raw tables, `kept` other tables whose rows stay whatever is built (what publishes changed is one), `built`
    those that dbt builds anew, `marts` the published ones. `keys_before` hold the key that a row once had, as JSON.
    `names` says by relation (`schema.table`) under which names refused rows, earlier keys and profiles have keys of
    data subjects.
    """

    raw: tuple[Place, ...]
    keys_before: tuple[Place, ...]
    kept: tuple[Place, ...]
    built: tuple[Place, ...]
    marts: tuple[Mart, ...]
    names: Mapping[str, Names]
    sources: frozenset[str]

    @property
    def places(self) -> tuple[Place, ...]:
        """Every column with keys of data subjects, in the order of their tables."""
        return _sorted((*self.raw, *self.kept, *self.built))

    def of(self, subject: Subject) -> Locations:
        """Return where keys of this data subject are."""

        def mine(places: tuple[Place, ...]) -> tuple[Place, ...]:
            return tuple(place for place in places if place.subject == subject)

        return replace(
            self,
            raw=mine(self.raw),
            keys_before=mine(self.keys_before),
            kept=mine(self.kept),
            built=mine(self.built),
            marts=tuple(mart for mart in self.marts if mart.place.subject == subject),
        )


def locate(settings: Settings) -> Locations:
    """Return where data subjects are.

    Raises:
        GranaryError: a source's module cannot be used, or a model names a data subject that is not declared, so that
            nobody knows where in those tables they are.
    """
    for error in BROKEN.values():
        raise error
    _check_dbt_sources(settings)
    nodes = _nodes(settings)
    tables = list(_tables())
    names = {f"raw_{source}.{table.name}": names_of(table) for source, table in tables}
    for node in nodes:
        for place in _places(node):
            names[place.name] = {**names.get(place.name, {}), place.column: place.subject}
    with connect(settings, role="eraser") as connection:
        known = set(_columns(connection))

        def there(places: Iterable[Place]) -> tuple[Place, ...]:
            return _sorted(place for place in places if (place.schema, place.table, place.column) in known)

        return Locations(
            raw=there(
                Place(f"raw_{source}", table.name, column, subject)
                for source, table in tables
                for column, subject in columns_of(table).items()
            ),
            keys_before=there(
                Place(f"raw_{source}", table.name, KEY_BEFORE, subject)
                for source, table in tables
                if any(column.name == KEY_BEFORE for column in table.columns)
                for subject in columns_of(table).values()
            ),
            kept=there(place for node in nodes for place in _places(node) if _stays(node) or place.is_kept),
            built=there(place for node in nodes for place in _places(node) if not (_stays(node) or place.is_kept)),
            marts=tuple(mart for node in nodes if is_mart(node) for mart in _mart(connection, node)),
            names={relation: found for relation, found in names.items() if found},
            sources=frozenset(SOURCES),
        )


def undeclared(settings: Settings, connection: Connection, where: Locations) -> list[Place]:
    """Return columns that are called like one with keys of a data subject, and of which nothing says what they are.

    A column of a contract or a model says it by having no subject, unless it is a personal one of a model, which may
    lack it by mistake.
    """
    names: dict[str, dict[Subject, None]] = {}
    for found in where.names.values():
        for name, subject in found.items():
            names.setdefault(name, {})[subject] = None
    said = {(f"raw_{source}", table.name, column.name) for source, table in _tables() for column in table.columns}
    said |= {
        (schema, table, name)
        for node in _nodes(settings)
        for schema, table in (
            (schema, table) for schema in schemas(node) for table in (_table(node), _table(node) + DELTA)
        )
        for name, column in node["columns"].items()
        if not tier(column)
    }
    said |= {(place.schema, place.table, place.column) for place in where.places}
    return [
        Place(*column, subject)
        for column in _columns(connection)
        if column not in said
        for subject in names.get(column[2], ())
    ]


def _sorted(places: Iterable[Place]) -> tuple[Place, ...]:
    return tuple(sorted(set(places), key=str))


def _columns(connection: Connection) -> list[tuple[str, str, str]]:
    """Return every column of every table in the database, with schema and table."""
    return [(str(schema), str(table), str(column)) for schema, table, column in query(connection, COLUMNS)]


def _tables() -> Iterator[tuple[str, Table]]:
    """Yield every raw table that the sources declare, change tables too."""
    for source in SOURCES.values():
        for table in source.tables:
            yield source.name, table
            if source.is_captured:
                yield source.name, changes_table(table)


def _manifest(settings: Settings) -> Mapping[str, Any]:
    return dbt_manifest.load(dbt_manifest.prepare(settings))


def _nodes(settings: Settings) -> list[Mapping[str, Any]]:
    return [node for node in _manifest(settings)["nodes"].values() if node["resource_type"] != "test"]


def _stays(node: Mapping[str, Any]) -> bool:
    """Return whether a node's rows stay, whatever is built: snapshots, and tables that are only appended to."""
    config = node["config"]
    appended = config.get("materialized") == "incremental" and config.get("incremental_strategy") == "append"
    return bool(node["resource_type"] == "snapshot" or appended)


def _table(node: Mapping[str, Any]) -> str:
    return relation(node).partition(".")[2]


def _places(node: Mapping[str, Any]) -> Iterator[Place]:
    """Yield the columns of a node that hold keys of data subjects, in every schema that has its rows."""
    for name, column in node["columns"].items():
        if subject := _subject(node, name):
            condition = meta(column).get("subject_where", "true")
            for schema in schemas(node):
                kept = is_mart(node) and schema.endswith(HISTORY)
                yield Place(schema, _table(node), name, subject, condition, is_history=kept)
            if has_delta(node):
                yield Place(node["schema"], _table(node) + DELTA, name, subject, condition)
            if meta(node).get("fresh"):
                schema = str(node["schema"]).removesuffix(BUILT) + FRESH
                yield Place(schema, _table(node) + STREAM, name, subject, condition, is_stream=True)


def _subject(node: Mapping[str, Any], column: str) -> Subject | None:
    """Return whose keys a column of a node holds, by its `meta.subject`."""
    name = meta(node["columns"][column]).get("subject")
    if name is None:
        return None
    try:
        if not isinstance(name, str):
            raise ValueError(f"a column holds keys of one data subject, and not of {name!r}")
        return subjects.named(name)
    except ValueError as error:
        raise _wrong(node, column, str(error)) from None


def _check_dbt_sources(settings: Settings) -> None:
    """Refuse a raw column that is one data subject's by its contract, and another's by dbt's source."""
    contracts = {(source, table.name): columns_of(table) for source, table in _tables()}
    for node in _manifest(settings)["sources"].values():
        contract = contracts.get((node["source_name"], _table(node)))
        for column in node["columns"] if contract is not None else ():
            ours, theirs = contract.get(column), _subject(node, column)  # type: ignore[union-attr]
            if theirs and ours != theirs:
                what = f"its contract says {ours.name if ours else 'nobody'} and dbt's source {theirs.name}"
                raise _wrong(node, column, f"a column holds keys of one data subject; {what}")


def _wrong(node: Mapping[str, Any], column: str, what: str) -> GranaryError:
    where = str(node.get("patch_path") or node["original_file_path"]).rpartition("://")[2]
    return GranaryError(f"{node['name']}.{column}: {what}", where, "correct its config.meta.subject")


def _mart(connection: Connection, node: Mapping[str, Any]) -> Iterator[Mart]:
    """Yield a published mart with data subjects, with what the ledger of publishes adds up of it."""
    schema, _, table = published(node).partition(".")
    kinds = warehouse.columns_of(connection, quote_relation(schema, table))
    for place in _places(node):
        if place.schema == schema and place.column in kinds:
            declared = meta(node).get("business_date")
            ((day,),) = query(connection, "select ops.day_of($1, $2)", place.relation, declared)
            yield Mart(place, str(day), tuple(name for name in _measures(connection, schema, table) if name in kinds))


def _measures(connection: Connection, schema: str, mart: str) -> list[str]:
    """Return what the newest publish of a mart has added up; which columns that are is decided there alone."""
    if query(connection, "select to_regclass('ops.published_months')::text") == [(None,)]:
        return []
    return [str(name) for (name,) in query(connection, MEASURES, schema, mart)]
