"""Takes somebody out of the warehouse: raw tables, snapshots, quarantine, profiles, ledger, in one transaction.

It holds the lock of every source, so that no load brings a row meanwhile, and the snapshots for itself, so that no
build that read before writes one afterwards. Models notice by the load ids of ops.erased_rows (log_changes.sql).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from granary.dbt.manifest_nodes import HISTORY, PUBLISHED
from granary.privacy.filter import BLANK, Match, matches
from granary.privacy.identity import Identity, identity_of
from granary.privacy.locations import Locations, Mart, Place
from granary.privacy.locator import earlier_keys, matching, refused_rows, shown_values
from granary.privacy.suppression_list import HashKey, entries, key_of
from granary.warehouse.connection import (
    Connection,
    LockHeldError,
    columns_of,
    connect,
    execute,
    lock,
    query,
    quote_name,
)
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from granary.warehouse.settings import Settings

PATIENCE_SECONDS = 120
"""How long an erasure waits for the load or snapshot that is at work."""
SUMMED = ("double precision", "real", "numeric")


@dataclass(frozen=True)
class Total:
    """What is taken from a relation: rows, and sums of measures; from a mart by business month (YYYY-MM-DD)."""

    relation: str
    rows: int
    month: str | None = None
    measures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Away:
    """What a file of archived raw rows has of somebody: `loads` are those that count, each with how many rows."""

    source: str
    table: str
    relation: str
    rows: int
    loads: Mapping[int, int]
    measures: dict[str, str]


class Archive(Protocol):
    """Raw rows that are in files (`granary.tiering.without`), for an erasure: prepared before its transaction."""

    def prepare(self, is_one: Callable[[Identity], bool]) -> None:
        """Look for those whom `is_one` knows, and write what is to take the place of each file that has one."""
        ...

    def is_ready(self, connection: Connection) -> bool:
        """Return whether that is still all that there is, now that nothing more can be archived."""
        ...

    def away(self, connection: Connection) -> dict[Identity, list[Away]]:
        """Return what is in files, by whose it is."""
        ...

    def switch(self, connection: Connection) -> None:
        """Have the ledger name the new files, in the transaction of the erasure."""
        ...


class NoArchive:
    """Nothing is archived."""

    def prepare(self, is_one: Callable[[Identity], bool]) -> None:
        """Do nothing."""

    def is_ready(self, connection: Connection) -> bool:
        """Say yes."""
        return True

    def away(self, connection: Connection) -> dict[Identity, list[Away]]:
        """Return nothing."""
        return {}

    def switch(self, connection: Connection) -> None:
        """Do nothing."""


@dataclass
class Erasing:
    """One erasure at work, within one transaction of the role `eraser`."""

    connection: Connection
    where: Locations
    totals: list[Total] = field(default_factory=list)
    taken: int = 0

    def erase(self, identity: Identity, erasure_id: int, away: Sequence[Away] = ()) -> None:
        """Take everything of somebody out of what is not built anew, and record how much it was.

        `away` is what files have of them: it is recorded here, and goes with the files.
        """
        where = self.where.of(identity.subject)
        marts = [total for mart in where.marts for total in self._published(mart, identity)]
        for place in where.raw:
            self._raw(place, identity, erasure_id)
        for one in away:
            self._note(one.relation, one.rows, one.measures)
            settle(self.connection, one.source, one.table, one.loads, erasure_id, is_archived=True)
        for place in where.keys_before:
            self._keys_before(place, identity)
        for place in where.kept:
            self._note(place.name, self._delete(place, identity))
            if place.is_history:
                schema = place.schema.removesuffix(HISTORY) + PUBLISHED
                execute(self.connection, "select ops.settle_history($1, $2)", schema, place.table)
        self._quarantine(identity)
        self._profiles(identity)
        if self.taken:
            self.totals += marts
        for total in self.totals:
            execute(
                self.connection,
                "insert into ops.erased_totals (erasure_id, relation, business_month, row_count, measures)"
                " values ($1, $2, $3::date, $4, $5::jsonb)",
                erasure_id,
                total.relation,
                total.month,
                total.rows,
                json.dumps(total.measures),
            )

    def _published(self, mart: Mart, identity: Identity) -> Iterator[Total]:
        """Yield what people can read of somebody now, by business month."""
        sums = "".join(f", sum({quote_name(name)})::text" for name in mart.measures)
        condition, wanted = matching(self.connection, mart.place, identity)
        rows = query(
            self.connection,
            f"select date_trunc('month', {mart.day}::timestamp)::date::text, count(*){sums} from {mart.place.relation}"
            f" where {condition} group by 1 order by 1",
            wanted,
        )
        for month, number, *added in rows:
            yield Total(mart.place.name, number, month, dict(zip(mart.measures, added, strict=True)))

    def _raw(self, place: Place, identity: Identity, erasure_id: int) -> None:
        """Delete a raw table's rows, and have the ledger say so of each load that had brought them."""
        kinds = columns_of(self.connection, place.relation)
        added = [name for name, kind in kinds.items() if kind.startswith(SUMMED)]
        sums = "".join(f", sum({quote_name(name)})" for name in added)
        condition, wanted = matching(self.connection, place, identity)
        gone = query(
            self.connection,
            f"with gone as (delete from {place.relation} where {condition} returning *)"
            f" select _load_id, count(*){sums} from gone group by _load_id order by _load_id",
            wanted,
        )
        measures = {name: str(round(sum(float(row[2 + n] or 0) for row in gone), 2)) for n, name in enumerate(added)}
        self._note(place.name, sum(row[1] for row in gone), measures)
        loads = {int(row[0]): int(row[1]) for row in gone}
        settle(self.connection, place.schema.removeprefix("raw_"), place.table, loads, erasure_id)

    def _keys_before(self, place: Place, identity: Identity) -> None:
        """Empty the earlier keys of rows that were somebody's and are another's now."""
        names = self.where.names[place.name]
        rows = earlier_keys(self.connection, place)
        ids = [ctid for ctid, text in rows if matches(text, names, identity.__eq__) == "yes"]
        if ids:
            empty = f"update {place.relation} set {quote_name(place.column)} = null where ctid = any($1::text[]::tid[])"
            execute(self.connection, empty, ids)
            self._note(place.name, len(ids))

    def _delete(self, place: Place, identity: Identity) -> int:
        condition, wanted = matching(self.connection, place, identity)
        sql = f"with gone as (delete from {place.relation} where {condition} returning 1) select count(*) from gone"
        return int(query(self.connection, sql, wanted)[0][0])

    def _quarantine(self, identity: Identity) -> None:
        """Delete refused rows of somebody; text without structure that may be of it is taken out."""
        found: dict[Match, list[tuple[int, int]]] = {"yes": [], "maybe": [], "no": []}
        for number, load_id, relation, payload in refused_rows(self.connection, self.where):
            found[matches(payload, self.where.names[relation], identity.__eq__)].append((number, load_id))
        mine, maybe = found["yes"], found["maybe"]
        if mine:
            execute(
                self.connection,
                "delete from ops.quarantine where quarantine_id = any($1::bigint[])",
                [number for number, _ in mine],
            )
            execute(
                self.connection,
                "update ops.load_audit as l set rows_quarantined = l.rows_quarantined - gone.number,"
                " rows_forgotten = l.rows_forgotten + gone.number"
                " from (select load_id, count(*) as number from unnest($1::bigint[]) as load_id group by load_id)"
                " as gone"
                " where l.load_id = gone.load_id and l.rows_quarantined >= gone.number",
                [load_id for _, load_id in mine],
            )
            self._note("ops.quarantine", len(mine))
        if maybe:
            execute(
                self.connection,
                "update ops.quarantine set payload = $2::jsonb where quarantine_id = any($1::bigint[])",
                [number for number, _ in maybe],
                json.dumps(BLANK),
            )
            self._note("ops.quarantine, text taken out", len(maybe))

    def _profiles(self, identity: Identity) -> None:
        """Take the values of columns with keys of data subjects out of profiles that hold this one."""
        changed = 0
        profiles = query(self.connection, "select profile_id, relation, profile::text from ops.profiles")
        for number, relation, text in profiles:
            profile = json.loads(text)
            names = self.where.names.get(relation, {})
            mine = [
                column
                for column in profile["columns"]
                if (subject := names.get(column["name"]))
                and any(identity_of(subject, value) == identity for value in shown_values(column))
            ]
            for column in mine:
                column |= {"minimum": None, "maximum": None, "percentiles": [], "top": [], "personal": True}
            if mine:
                execute(
                    self.connection,
                    "update ops.profiles set profile = $2::jsonb where profile_id = $1",
                    number,
                    json.dumps(profile),
                )
                changed += 1
        self._note("ops.profiles", changed)

    def _note(self, relation: str, rows: int, measures: dict[str, str] | None = None) -> None:
        if rows:
            self.taken += rows
            self.totals.append(Total(relation, rows, measures=measures or {}))


def settle(
    connection: Connection,
    source: str,
    table: str,
    loads: Mapping[int, int],
    erasure_id: int | None,
    *,
    is_archived: bool = False,
) -> None:
    """Move so many rows of these loads from loaded to forgotten, and give the erasure its number for the models.

    Of an erasure that nobody knows any more (None) models hear nothing.
    """
    if not loads:
        return
    parameters = (list(loads), list(loads.values()), source, table)
    if erasure_id is not None:
        ((number,),) = query(connection, "select nextval('ops.load_id')")
        execute(
            connection,
            "insert into ops.erased_rows (erasure_id, load_id, source, table_name, erased_load_id, row_count)"
            " select $5::bigint, $6::bigint, $3::text, $4::text, load_id, row_count"
            " from unnest($1::bigint[], $2::bigint[]) as gone (load_id, row_count)",
            *parameters,
            erasure_id,
            number,
        )
    if not is_archived:  # the raw table does not count those
        execute(
            connection,
            "update ops.raw_tables set row_count = row_count - $3 where source = $1 and table_name = $2",
            source,
            table,
            sum(loads.values()),
        )
    # Rows of a captured table are counted by the load of its changes.
    execute(
        connection,
        "update ops.load_audit as l set rows_loaded = l.rows_loaded - gone.row_count,"
        " rows_forgotten = l.rows_forgotten + gone.row_count"
        " from unnest($1::bigint[], $2::bigint[]) as gone (load_id, row_count)"
        " where l.load_id = gone.load_id and l.source = $3 and l.table_name = $4"
        " and l.status in ('loaded', 'unchanged') and l.rows_loaded >= gone.row_count",
        *parameters,
    )


def begin(settings: Settings, where: Locations) -> Connection:
    """Open a transaction that no load, no snapshot and no other erasure works beside.

    Raises:
        GranaryError: one of them is at work for longer than `PATIENCE_SECONDS`.
    """
    connection = connect(settings, role="eraser")
    try:
        for name in ("forget", *(f"load.{source}" for source in sorted(where.sources))):
            lock(connection, name, PATIENCE_SECONDS)
        execute(connection, f"set local lock_timeout = '{PATIENCE_SECONDS}s'")
        for relation in sorted({place.relation for place in where.kept}):
            execute(connection, f"lock table {relation} in access exclusive mode")
    except LockHeldError as error:
        connection.close()
        raise GranaryError(
            f"a load, a build or another erasure has been at work for over {PATIENCE_SECONDS} s: {error.holder}",
            "the warehouse",
            "wait for it, or end it, and run this again",
        ) from None
    except BaseException:
        connection.close()
        raise
    return connection


def register(
    connection: Connection, key: HashKey, subject: str, reason: str | None, requested_at: str | None = None
) -> int:
    """Return the number of somebody's erasure, which is made if it is not there."""
    rows = query(
        connection,
        "insert into ops.erasures as mine (subject, key_mark, reason, requested_at)"
        " values ($1, $2, $3, coalesce($4::timestamptz, clock_timestamp()))"
        " on conflict (subject) do update set reason = coalesce(mine.reason, excluded.reason) returning erasure_id",
        subject,
        key.mark,
        reason,
        requested_at,
    )
    return int(rows[0][0])


def reopen(connection: Connection, erasure_id: int) -> None:
    """Say that rows were taken out just now, so that the marts have to follow."""
    execute(
        connection,
        "update ops.erasures set erased_at = clock_timestamp(), finished_at = null where erasure_id = $1",
        erasure_id,
    )


def restore(settings: Settings, connection: Connection) -> None:
    """Have the database know whom the list beside it has; a dump that is older than the erasure does not."""
    key = key_of(settings)
    for entry in entries(settings) if key else ():
        register(connection, key, entry.subject, entry.reason, entry.requested_at)  # type: ignore[arg-type]


def vacuum(settings: Settings, places: Sequence[Place]) -> None:
    """Have Postgres remove the deleted rows from the tables' pages; see docs/engine/runbooks/forget-somebody.md."""
    with connect(settings, autocommit=True) as connection:
        for relation in sorted({place.relation for place in places} | {"ops.quarantine", "ops.profiles"}):
            if query(connection, "select to_regclass($1)::text", relation) != [(None,)]:
                execute(connection, f"vacuum {relation}")
    fault_point("forget-vacuumed")
