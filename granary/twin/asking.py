"""A query, asked of the twin where that is quicker and the answer is the same, else of Postgres; nothing is written.

Postgres is asked first what it would do, with the rights of the role: it refuses what the role may not read, says of
what types the answer is, and what it would cost. The twin answers of the publish that is shown, and of no other.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from granary.twin import able, catalog, config, duck, ledger
from granary.twin.copies import PERSONAL, SHARED, Copy
from granary.twin.duck import text
from granary.warehouse.connection import connect, execute, failure, query, quote_name
from granary.warehouse.errors import GranaryError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.twin.catalog import Label
    from granary.twin.ledger import Ledger, Mart
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

Engine = Literal["twin", "postgres"]
ROLES = {"analyst": (SHARED,), "analyst_pii": (SHARED, PERSONAL)}
"""Roles that the twin answers to, and the copies that each reads."""
WORTH = 100_000
"""What a query has to cost by the planner to be worth the half second in which the twin is opened."""
SEES = """
    select has_table_privilege(ops.role_name($1), to_regclass($2), 'select'),
        has_table_privilege(ops.role_name($1), to_regclass($3), 'select')
"""


@dataclass(frozen=True)
class Description:
    """What Postgres says of a query: names and types of the answer's columns, and the cost by its planner."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    cost: float


@dataclass(frozen=True)
class Relation:
    """A mart that a query may read: the copy that it is read from, and its columns."""

    mart: str
    copy: Copy
    columns: tuple[str, ...]


Reads = tuple[tuple[tuple[Copy, int], ...], tuple[Relation, ...]]
"""Copies with the snapshot of each, and what is read from them."""


class UnableError(Exception):
    """Why the twin does not answer."""


@dataclass(frozen=True)
class Route:
    """Who answers, and why. `sql` is what the twin is asked, of `relations` in `snapshots`.

    `names` and `kinds` are the columns of the answer as Postgres has them, empty if DuckDB decides.
    """

    engine: Engine
    why: str
    sql: str = ""
    names: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    snapshots: tuple[tuple[Copy, int], ...] = ()
    relations: tuple[Relation, ...] = ()


def describe(settings: Settings, sql: str, role: str) -> Description:
    """Ask Postgres about a query, as a role, and run nothing.

    Raises:
        GranaryError: it refuses the query.
        UsageError: it is not one query.
    """
    with connect(settings, role=role) as connection:
        execute(connection, "set transaction read only")
        explained = answered(connection, f"explain (format json) {sql}", sql)
        answered(connection, "", sql, prepare=True)
        told = connection.pgconn.describe_prepared(b"")
        plan = json.loads(explained.get_value(0, 0) or b"[]")[0]["Plan"]
        kinds = query(
            connection,
            "select format_type(a.oid, a.modifier) from unnest($1::oid[], $2::int[]) with ordinality"
            " as a (oid, modifier, place) order by place",
            [told.ftype(one) for one in range(told.nfields)],
            [told.fmod(one) for one in range(told.nfields)],
        )
        names = tuple((told.fname(one) or b"").decode() for one in range(told.nfields))
    if not names:
        raise UsageError("it is no query that returns rows", sql[:80], "write a SELECT; this command changes nothing")
    return Description(names, tuple(str(kind) for (kind,) in kinds), float(plan["Total Cost"]))


def answered(connection: Connection, statement: str, sql: str, *, prepare: bool = False) -> Any:
    """Return libpq's answer, values as texts, to one statement; several at once are refused.

    Raises:
        GranaryError: Postgres refuses it.
    """
    from psycopg import pq  # noqa: PLC0415 - beside the connection's own
    from psycopg.errors import error_from_result  # noqa: PLC0415

    pgconn = connection.pgconn
    found = pgconn.prepare(b"", sql.encode()) if prepare else pgconn.exec_params(statement.encode(), None)
    if found.status not in {pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY}:
        raise failure(error_from_result(found, "utf-8"), " ".join(sql.split())[:200])
    return found


def route(settings: Settings, sql: str, role: str = "analyst", *, worth: float = WORTH) -> Route:
    """Return who is to answer a query: the twin if it gives the same answer more quickly, else Postgres.

    Raises:
        GranaryError: Postgres refuses the query.
    """
    told = describe(settings, sql, role)
    try:
        return _twin(settings, sql, role, told, worth)
    except UnableError as error:
        return Route("postgres", str(error))


def _twin(settings: Settings, sql: str, role: str, told: Description, worth: float) -> Route:
    """Return that the twin answers.

    Raises:
        UnableError: it cannot, or not more quickly.
    """
    if not config.is_wanted():
        raise UnableError("the project has no twin")
    if role not in ROLES or not duck.is_installed():
        raise UnableError(f"the twin does not answer to {role}" if role not in ROLES else "it is not installed")
    if told.cost < worth:
        raise UnableError(f"by its planner it costs {told.cost:,.0f}; from {worth:,.0f} on the twin is quicker")
    with duck.session(settings) as engine:
        marts, why = able.tables(engine, sql)
        if why:
            raise UnableError(why)
        snapshots, relations = _relations(settings, role, marts, None)
        _open(engine, settings, role, snapshots, relations)
        try:
            types = [str(row[1]) for row in engine.execute(f"describe {sql}").fetchall()]
        except Exception as error:
            raise UnableError(f"the twin cannot: {duck.reason(error)}") from None
    if len(types) != len(told.kinds):
        raise UnableError("a column is not the same in the twin")
    casts = [able.cast(kind, found) for kind, found in zip(told.kinds, types, strict=True)]
    for name, kind, found, target in zip(told.names, told.kinds, types, casts, strict=True):
        if target is None:
            raise UnableError(f"{name} is {kind}, and {found} in the twin")
    columns = ", ".join(f"cast(c{place} as {target}) as c{place}" for place, target in enumerate(casts))
    listed = ", ".join(f"c{place}" for place in range(len(casts)))
    asked = f"select {columns} from (\n{sql}\n) as answer ({listed})"
    return Route("twin", f"publish {_shown(settings)}", asked, told.names, told.kinds, snapshots, relations)


def forced(settings: Settings, sql: str, role: str, publish: int | None) -> Route:
    """Return that the twin is to answer, whatever DuckDB makes of the query.

    Args:
        settings: the warehouse.
        sql: one query, in DuckDB's SQL.
        role: with whose rights.
        publish: the number of a publish that is kept; None for the one that is shown.

    Raises:
        GranaryError: the twin does not have that publish, or does not answer to the role.
    """
    config.required(settings)
    if role not in ROLES:
        raise UsageError(f"the twin does not answer to {role!r}", todo=f"it does to {' and '.join(ROLES)}")
    try:
        snapshots, relations = _relations(settings, role, None, publish)
    except UnableError as error:
        todo = "`granary twin` says what it has, `granary twin sync` brings it up to date"
        raise GranaryError(str(error), "the twin", todo) from None
    return Route("twin", f"publish {publish or _shown(settings)}", sql, (), (), snapshots, relations)


@contextmanager
def answering(settings: Settings, chosen: Route, role: str, sql: str | None = None) -> Iterator[Any]:
    """Yield the answer of the twin, or that to another query of the same marts; its session ends with the block."""
    with duck.session(settings) as engine:
        _open(engine, settings, role, chosen.snapshots, chosen.relations)
        yield engine.execute(sql or chosen.sql)


def _shown(settings: Settings) -> int:
    with connect(settings, role="transformer") as connection:
        return ledger.line(connection)[-1].shows


def _relations(settings: Settings, role: str, wanted: frozenset[str] | None, publish: int | None) -> Reads:
    """Return the snapshots and the relations that a query of a role reads.

    Args:
        settings: the warehouse.
        role: whose query it is.
        wanted: the marts that it reads, with columns only that are the same in both; None for all that there are.
        publish: of which publish, None for the one that is shown.

    Raises:
        UnableError: the twin does not have them.
    """
    with connect(settings, role="transformer") as connection:
        known = ledger.read(connection)
        if not known.line:
            raise UnableError("nothing was published yet")
        shows = known.shown if publish is None else publish
        labels = {copy: _label(connection, copy, known, publish) for copy in ROLES[role]}
        relations: list[Relation] = []
        for mart in known.state(shows):
            copy = _copy(connection, role, mart) if wanted is None or mart.name in wanted else None
            if copy and mart.name in labels[copy].marts:
                columns = tuple(one.name for one in mart.columns if one.is_same or wanted is None)
                relations.append(Relation(mart.name, copy, columns))
        if others := (wanted or frozenset()) - {one.mart for one in relations}:
            raise UnableError(f"{min(others)} is not in the twin")
        if wanted is not None and not _is_binary(connection):
            raise UnableError("texts are ordered otherwise in this database")
    used = {one.copy for one in relations}
    return tuple((copy, label.snapshot) for copy, label in labels.items() if copy in used), tuple(relations)


def _label(connection: Connection, copy: Copy, known: Ledger, publish: int | None) -> Label:
    """Return the newest snapshot that is as a publish left the marts; None for the one that is shown.

    Raises:
        UnableError: there is none, or somebody was forgotten since.
    """
    shows = known.shown if publish is None else publish
    marts = {mart.name: mart.mark for mart in known.state(shows)}
    for label in reversed(catalog.labels(connection, copy.catalog)):
        is_it = label.shows == shows and label.erasures == known.erasures
        if is_it and all(marts.get(name) == mark for name, mark in label.marts.items()):
            return label
    raise UnableError(f"it does not have publish {shows}{' yet' if publish is None else ''}")


def _copy(connection: Connection, role: str, mart: Mart) -> Copy | None:
    """Return the copy in which a role sees of a mart what it sees in Postgres, None if it may not read it."""
    ((may_read, sees_all),) = query(connection, SEES, role, f"marts.{quote_name(mart.name)}", mart.table)
    if not may_read:
        return None
    if mart.masked and sees_all:
        return PERSONAL if PERSONAL in ROLES[role] else None
    return SHARED if mart.is_shared else PERSONAL if PERSONAL in ROLES[role] else None


def _is_binary(connection: Connection) -> bool:
    """Return whether the database compares texts by their bytes, as DuckDB does."""
    return query(connection, "select 'a' > 'B' and 'é' > 'z' and 'a b' < 'aa'") == [(True,)]


def _open(
    engine: Any,
    settings: Settings,
    role: str,
    snapshots: tuple[tuple[Copy, int], ...],
    relations: tuple[Relation, ...],
) -> None:
    """Have the marts as views of what a role may see, and nothing else within reach."""
    for copy, snapshot in snapshots:
        duck.attach_twin(engine, settings, role, copy.catalog, copy.catalog, read_only=True, snapshot_version=snapshot)
    engine.execute("create schema marts")
    for one in relations:
        listed, name = ", ".join(map(quote_name, one.columns)) or "1", quote_name(one.mart)
        engine.execute(f"create view marts.{name} as select {listed} from {one.copy.catalog}.marts.{name}")
    folders = [
        row[0] for copy, _ in snapshots for row in engine.execute(
            f"select data_path from ducklake_settings({text(copy.catalog)})"
        ).fetchall()
    ]  # fmt: skip
    engine.execute("set integer_division = true")
    engine.execute("set default_null_order = 'nulls_last_on_asc_first_on_desc'")
    if folders:
        engine.execute(f"set allowed_directories = [{', '.join(map(text, folders))}]")
    engine.execute("set enable_external_access = false")
    engine.execute("set lock_configuration = true")
