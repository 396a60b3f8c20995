"""What a target does not have yet: the rows of a mart or query as of the last publish, against what it was sent before.

The rows are read with the rights of the delivery's role, in a transaction that sees one publish, and compared by key
with the digests of what was sent. Of a mart whose publishes are kept only the rows are read that these have changed.
What is found goes into batches, with the position, in one transaction.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from granary.deliver import records
from granary.warehouse import published
from granary.warehouse.connection import connect, execute, failure, query, reason
from granary.warehouse.errors import GranaryError, UsageError, unknown
from granary.warehouse.reading import MARTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.deliver.records import Known
    from granary.deliver.spec import Delivery
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

SCHEMA = "marts"
MOST_CHANGED = 50_000
"""Of so many changed rows or more it is quicker to read the whole mart."""
PLAN = """
    select plan -> 'key', ops.has_key(plan), ops.history_of($1, $2), to_regclass(ops.history_of($1, $2)) is not null
    from (select ops.plan_now($1, $2) as plan) as known where plan is not null
"""
SEEN = "create temporary table seen (key text not null, digest bigint, payload text) on commit drop"
CHANGES = """
    create temporary table changes on commit drop as
    select
        op, key, digest, payload,
        (row_number() over (order by op <> 'delete', key collate "C") - 1) / $3 + 1 as place
    from (
        select case when known.is_there then 'update' else 'insert' end as op, seen.key, seen.digest, seen.payload
        from pg_temp.seen left join ops.delivered_rows as known on known.delivery = $1 and known.key = seen.key
        where known.key is null or known.digest is distinct from seen.digest or $2
        union all
        select 'delete', known.key, null, null
        from ops.delivered_rows as known
        where
            known.delivery = $1 and known.is_there and (known.op is distinct from 'delete' or $2)
            and not exists (select from pg_temp.seen where seen.key = known.key)
            and ($4::jsonb is null or known.key in (select one::text from jsonb_array_elements($4::jsonb) as one))
    ) as changed
"""
NEVER_SENT = """
    delete from ops.delivered_rows as known
    where
        known.delivery = $1 and not known.is_there and not exists (select from pg_temp.seen where seen.key = known.key)
        and ($2::jsonb is null or known.key in (select one::text from jsonb_array_elements($2::jsonb) as one))
"""
REPLAYED = """
    create temporary table changes on commit drop as
    select
        op, key, digest, payload::text, quarantine_id,
        (row_number() over (order by op <> 'delete', key collate "C") - 1) / $2 + 1 as place
    from ops.delivered_rows
    where delivery = $1 and quarantine_id = any($3::bigint[]) and reason is not null and not is_dropped
"""
COUNTS = """
    select count(*) filter (where op = 'insert'), count(*) filter (where op = 'update'),
        count(*) filter (where op = 'delete'), coalesce(max(place), 0)
    from pg_temp.changes
"""
INTO_BATCHES = (
    """
    insert into ops.delivered_rows as known (delivery, key, digest, batch, op, payload)
    select $1, key, digest, $2 + place, op, payload::jsonb from pg_temp.changes
    on conflict (delivery, key) do update set
        digest = excluded.digest, batch = excluded.batch, op = excluded.op, payload = excluded.payload, reason = null,
        refused_at = null, is_dropped = false,
        quarantine_id = case when (known.op, known.digest) is not distinct from (excluded.op, excluded.digest)
            then known.quarantine_id end,
        first_refused_at = case when (known.op, known.digest) is not distinct from (excluded.op, excluded.digest)
            then known.first_refused_at end
    """,
    """
    insert into ops.delivery_batches (delivery, batch, publish_id, row_count, inserted, updated, deleted, digest)
    select $1, $2 + place, $3, count(*), count(*) filter (where op = 'insert'), count(*) filter (where op = 'update'),
        count(*) filter (where op = 'delete'),
        md5(string_agg(op || key || coalesce(payload, ''), chr(10) order by key collate "C"))
    from pg_temp.changes group by place
    """,
    "update ops.deliveries set last_batch = $2 + (select coalesce(max(place), 0) from pg_temp.changes)"
    " where delivery = $1",
)


@dataclass(frozen=True)
class Taken:
    """What is to be sent of a publish: rows by what they are for the target, and in how many batches.

    `again` are the numbers in the quarantine of rows that were refused, where those are what is to be sent.
    """

    publish_id: int
    inserted: int
    updated: int
    deleted: int
    batches: int
    again: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """All of them."""
        return self.inserted + self.updated + self.deleted


def check_marts(owner: Connection, delivery: Delivery) -> None:
    """Refuse a delivery whose marts are not there.

    Raises:
        UsageError: one is not.
    """
    there = {str(one).partition(".")[2] for (one,) in query(owner, MARTS, SCHEMA)}
    for mart in delivery.marts:
        if mart not in there:
            raise unknown("mart", mart, there, f"delivery {delivery.name}")


def source_of(delivery: Delivery) -> sql.Composable:
    """Return the rows of a delivery as a query."""
    if delivery.mart:
        return sql.SQL("select * from {}").format(sql.Identifier(SCHEMA, delivery.mart))
    return sql.SQL(delivery.query.strip().rstrip(";"))


def session(settings: Settings, role: str) -> Connection:
    """Open a session of a role that will see one publish, and cannot write."""
    connection = connect(settings, role=role)
    for statement in (
        "set session characteristics as transaction isolation level repeatable read, read only",
        "set time zone 'UTC'",
        "set extra_float_digits = 1",
    ):
        execute(connection, statement)
    connection.commit()
    return connection


def take(
    settings: Settings, owner: Connection, delivery: Delivery, target: str, *, everything: bool, known: Known | None
) -> Taken:
    """Put into batches what the target does not have of the last publish; the caller commits, or rolls back.

    Args:
        settings: the warehouse.
        owner: a transaction of the owner, in which nothing was done.
        delivery: what is delivered.
        target: what it goes to, in words.
        everything: send all rows, whatever was sent before.
        known: how far it is.

    Raises:
        UsageError: there is no such mart, or no key.
        GranaryError: columns or the target are others than before, the key tells no single row, or the role may not
            read the marts.
    """
    execute(owner, "set local time zone 'UTC'")
    key, history = _key(owner, delivery)
    reader, publish_id = published.at_one_publish(
        settings, SCHEMA, f"delivery {delivery.name}", lambda: session(settings, delivery.role)
    )
    with closing(reader):
        columns = _columns(reader, delivery)
        if missing := [one for one in key if one not in columns]:
            raise UsageError(
                f"it has no column {missing[0]}", f"delivery {delivery.name}, key", _known_columns(columns)
            )
        anew = known is not None and known.target != target
        if known and not everything:
            _same(delivery, known, target, columns)
        now = published.erasures(owner)
        shows = int(
            query(owner, "select coalesce(shows, publish_id) from ops.publishes where publish_id = $1", publish_id)[0][
                0
            ]
        )
        if known is None or anew:
            records.keep(owner, delivery.name, target, (publish_id, shows), now, columns)
        if anew:  # another target has none of it
            execute(owner, "delete from ops.delivered_rows where delivery = $1", delivery.name)
        narrowed = None
        if known and not everything and history and known.erasures == now:
            narrowed = _changed(settings, owner, history, key, (known.shows, shows))
        _read(owner, reader, delivery, columns, key, narrowed)
    execute(owner, NEVER_SENT, delivery.name, narrowed)
    execute(owner, CHANGES, delivery.name, everything, delivery.batch_rows, narrowed)
    records.keep(owner, delivery.name, target, (publish_id, shows), now, columns)
    return _into_batches(owner, delivery, publish_id)


def take_refused(owner: Connection, delivery: Delivery, known: Known, numbers: Sequence[int]) -> Taken:
    """Put what the target refused, by its numbers in the quarantine, into batches once more; the caller commits."""
    execute(owner, REPLAYED, delivery.name, delivery.batch_rows, list(numbers))
    again = tuple(int(number) for (number,) in query(owner, "select quarantine_id from pg_temp.changes order by 1"))
    return replace(_into_batches(owner, delivery, known.publish_id), again=again)


def _into_batches(owner: Connection, delivery: Delivery, publish_id: int) -> Taken:
    ((last,),) = query(owner, "select last_batch from ops.deliveries where delivery = $1", delivery.name)
    ((inserted, updated, deleted, batches),) = query(owner, COUNTS)
    rows, batch, position = INTO_BATCHES
    execute(owner, rows, delivery.name, last)
    execute(owner, batch, delivery.name, last, publish_id)
    execute(owner, position, delivery.name, last)
    return Taken(publish_id, inserted, updated, deleted, batches)


def _key(owner: Connection, delivery: Delivery) -> tuple[tuple[str, ...], str]:
    """Return the columns that tell a row, and the table of what publishes changed, if it tells of these columns."""
    check_marts(owner, delivery)
    key, history = delivery.key, ""
    if delivery.mart:
        for own, is_key, table, is_there in query(owner, PLAN, SCHEMA, delivery.mart):
            key = key or (tuple(own) if is_key else ())
            history = str(table) if is_key and is_there and set(own) == set(key) else ""
    if not key:
        todo = 'name the columns that tell a row, such as key=("order_id",)'
        raise UsageError("it has no key, so what changed cannot be told", f"delivery {delivery.name}", todo)
    return key, history


def _columns(reader: Connection, delivery: Delivery) -> dict[str, str]:
    """Return the columns of the rows with their types.

    Raises:
        GranaryError: the role may not read them, or the query is wrong.
    """
    try:
        with reader.cursor() as cursor:
            cursor.execute(sql.SQL("select * from ({}) as q limit 0").format(source_of(delivery)))
            return {one.name: one.type_display for one in cursor.description or ()}
    except psycopg.Error as error:
        todo = f"correct it, or grant it to {delivery.role}"
        raise GranaryError(f"the warehouse refuses it: {reason(error)}", f"delivery {delivery.name}", todo) from None


def _known_columns(columns: Mapping[str, str]) -> str:
    return f"it has {', '.join(columns)}"


def _same(delivery: Delivery, known: Known, target: str, columns: Mapping[str, str]) -> None:
    """Refuse to go on where columns or target are others than agreed.

    Raises:
        GranaryError: they are.
    """
    what = []
    if known.target != target:
        what.append(f"it goes to {target} and not to {known.target} any more")
    added, gone = (
        [one for one in columns if one not in known.columns],
        [one for one in known.columns if one not in columns],
    )
    retyped = [
        f"{name} ({known.columns[name]}, now {kind})"
        for name, kind in columns.items()
        if known.columns.get(name, kind) != kind
    ]
    for word, names in (("added", added), ("removed", gone), ("retyped", retyped)):
        if names:
            what.append(f"columns {word}: {', '.join(names)}")
    if what:
        todo = f"see that the target takes it, then send all rows: `granary deliver {delivery.name} --all`"
        raise GranaryError(f"{'; '.join(what)}. Nothing was sent", f"delivery {delivery.name}", todo)


def _changed(
    settings: Settings, owner: Connection, history: str, key: Sequence[str], between: tuple[int, int]
) -> str | None:
    """Return the keys in which two publishes differ, as JSON; None if that is not known, or they are too many."""
    found = "select count(*), coalesce(jsonb_agg(to_jsonb(keys)), '[]')::text from ({}) as keys"
    ((number, keys),) = query(owner, found.format(published.changed(history, key, *between)))
    with connect(settings) as later:  # what is kept of a publish may be given up at any time
        kept = {one.number for one in published.line(later, SCHEMA) if one.is_kept}
    return str(keys) if number < MOST_CHANGED and set(between) <= kept else None


def _read(
    owner: Connection,
    reader: Connection,
    delivery: Delivery,
    columns: Mapping[str, str],
    key: Sequence[str],
    narrowed: str | None,
) -> None:
    """Copy key, digest and row of what the role sees into a temporary table of the owner.

    Raises:
        GranaryError: the key is null somewhere, or tells no single row; or a server breaks off.
    """
    object_of_key = sql.SQL("jsonb_build_object({})").format(
        sql.SQL(", ").join(sql.SQL("{}, q.{}").format(sql.Literal(one), sql.Identifier(one)) for one in key)
    )
    rows = sql.SQL("({}) as q").format(source_of(delivery))
    if narrowed is not None:
        typed = (sql.SQL("{} {}").format(sql.Identifier(one), sql.SQL(columns[one])) for one in key)
        same = (sql.SQL("q.{0} = changed.{0}").format(sql.Identifier(one)) for one in key)
        rows = sql.SQL("{} inner join jsonb_to_recordset({}::jsonb) as changed ({}) on {}").format(
            rows, sql.Literal(narrowed), sql.SQL(", ").join(typed), sql.SQL(" and ").join(same)
        )
    has_null = sql.SQL(" or ").join(sql.SQL("q.{} is null").format(sql.Identifier(one)) for one in key)
    statement = sql.SQL(
        "copy (select case when {} then null else {}::text end, hashtextextended(to_jsonb(q)::text, 0),"
        " to_jsonb(q)::text from {}) to stdout (format binary)"
    ).format(has_null, object_of_key, rows)
    where = f"delivery {delivery.name}"
    execute(owner, "drop table if exists pg_temp.seen")
    execute(owner, SEEN)
    try:
        with (
            reader.cursor() as source,
            owner.cursor() as place,
            source.copy(statement) as out,
            place.copy("copy pg_temp.seen from stdin (format binary)") as into,
        ):
            for part in out:
                into.write(part)
        execute(owner, "create unique index on pg_temp.seen (key)")
        execute(owner, "analyze pg_temp.seen")
    except psycopg.errors.NotNullViolation:
        raise GranaryError(f"the key is null in some row: {', '.join(key)}", where, "leave such rows out") from None
    except psycopg.errors.UniqueViolation:
        what = f"several rows have the same key: {', '.join(key)}"
        raise GranaryError(what, where, "name the columns that tell a row") from None
    except psycopg.Error as error:
        raise failure(error, where) from None
