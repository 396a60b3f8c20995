"""Takes a household out of the warehouse: raw tables, snapshots, quarantine, profiles, ledger, in one transaction.

It holds the lock of every source, so that no load brings a row meanwhile, and the snapshots for itself, so that no
build that read before writes one afterwards. Models notice by the load ids of ops.erased_rows (log_changes.sql of the dbt package).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from granary.privacy.locator import Map, Mart, Place, matching, shown_values
from granary.privacy.suppression_list import Key, canonical, entries, key_of
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
from granary.warehouse.faults import reached

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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


@dataclass
class Erasing:
    """One erasure at work, within one transaction of the role `eraser`."""

    connection: Connection
    where: Map
    totals: list[Total] = field(default_factory=list)
    taken: int = 0

    def household(self, household: str, erasure_id: int) -> None:
        """Take everything of a household out of what is not built anew, and record how much it was."""
        marts = [total for mart in self.where.marts for total in self._published(mart, household)]
        for place in self.where.raw:
            self._raw(place, matching(self.connection, place, household), household, erasure_id)
        for place in self.where.keys_before:
            self._keys_before(place, household)
        for place in self.where.kept:
            self._note(place.name, self._delete(place, matching(self.connection, place, household), household))
        self._quarantine(household)
        self._profiles(household)
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

    def _published(self, mart: Mart, household: str) -> Iterator[Total]:
        """Yield what people can read of the household now, by business month."""
        sums = "".join(f", sum({quote_name(name)})::text" for name in mart.measures)
        rows = query(
            self.connection,
            f"select date_trunc('month', {mart.day}::timestamp)::date::text, count(*){sums} from {mart.place.relation}"
            f" where {matching(self.connection, mart.place, household)} group by 1 order by 1",
            household,
        )
        for month, number, *added in rows:
            yield Total(mart.place.name, number, month, dict(zip(mart.measures, added, strict=True)))

    def _raw(self, place: Place, condition: str, household: str, erasure_id: int) -> None:
        """Delete a raw table's rows, and have the ledger say so of each load that had brought them."""
        kinds = columns_of(self.connection, place.relation)
        added = [name for name, kind in kinds.items() if kind.startswith(SUMMED)]
        sums = "".join(f", sum({quote_name(name)})" for name in added)
        gone = query(
            self.connection,
            f"with gone as (delete from {place.relation} where {condition} returning *)"
            f" select _load_id, count(*){sums} from gone group by _load_id order by _load_id",
            household,
        )
        measures = {name: str(round(sum(float(row[2 + n] or 0) for row in gone), 2)) for n, name in enumerate(added)}
        self._note(place.name, sum(row[1] for row in gone), measures)
        self._settle(place, {int(row[0]): int(row[1]) for row in gone}, erasure_id)

    def _keys_before(self, place: Place, household: str) -> None:
        """Empty the earlier keys of rows that were the household's and are another's now."""
        column, names = quote_name(place.column), self.where.names[place.name]
        rows = query(
            self.connection,
            f"select ctid::text, {column}::text from {place.relation} where position($1 in {column}::text) > 0",
            household,
        )
        ids = [ctid for ctid, text in rows if self.where.judge(text, names, household.__eq__) == "theirs"]
        if ids:
            empty = f"update {place.relation} set {column} = null where ctid = any($1::text[]::tid[])"
            execute(self.connection, empty, ids)
            self._note(place.name, len(ids))

    def _settle(self, place: Place, loads: Mapping[int, int], erasure_id: int) -> None:
        """Move rows of these loads from loaded to forgotten, and give the erasure its number for the models."""
        if not loads:
            return
        source = place.schema.removeprefix("raw_")
        ((number,),) = query(self.connection, "select nextval('ops.load_id')")
        parameters = (list(loads), list(loads.values()), source, place.table)
        execute(
            self.connection,
            "insert into ops.erased_rows (erasure_id, load_id, source, table_name, erased_load_id, row_count)"
            " select $5::bigint, $6::bigint, $3::text, $4::text, load_id, row_count"
            " from unnest($1::bigint[], $2::bigint[]) as gone (load_id, row_count)",
            *parameters,
            erasure_id,
            number,
        )
        execute(
            self.connection,
            "update ops.raw_tables set row_count = row_count - $3 where source = $1 and table_name = $2",
            source,
            place.table,
            sum(loads.values()),
        )
        # Rows of a captured table are counted by the load of its changes.
        execute(
            self.connection,
            "update ops.load_audit as l set rows_loaded = l.rows_loaded - gone.row_count,"
            " rows_forgotten = l.rows_forgotten + gone.row_count"
            " from unnest($1::bigint[], $2::bigint[]) as gone (load_id, row_count)"
            " where l.load_id = gone.load_id and l.source = $3 and l.table_name = $4"
            " and l.status in ('loaded', 'unchanged') and l.rows_loaded >= gone.row_count",
            *parameters,
        )

    def _delete(self, place: Place, condition: str, household: str) -> int:
        sql = f"with gone as (delete from {place.relation} where {condition} returning 1) select count(*) from gone"
        return int(query(self.connection, sql, household)[0][0])

    def _quarantine(self, household: str) -> None:
        """Delete refused rows of the household; text without structure that may be of it is taken out."""
        rows = query(
            self.connection,
            "select quarantine_id, load_id, 'raw_' || source || '.' || table_name, payload::text from ops.quarantine"
            " where row_number > 0 and position($1 in payload::text) > 0",
            household,
        )
        found: dict[str, list[tuple[int, int]]] = {}
        for number, load_id, relation, text in rows:
            if names := self.where.names.get(relation):
                verdict = self.where.judge(json.loads(text), names, household.__eq__)
                found.setdefault(verdict, []).append((number, load_id))
        mine, perhaps = found.get("theirs", []), found.get("perhaps", [])
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
        if perhaps:
            execute(
                self.connection,
                "update ops.quarantine set payload = $2::jsonb where quarantine_id = any($1::bigint[])",
                [number for number, _ in perhaps],
                json.dumps(self.where.blank),
            )
            self._note("ops.quarantine, text taken out", len(perhaps))

    def _profiles(self, household: str) -> None:
        """Take the values of households' columns out of profiles that hold this one."""
        rows = query(
            self.connection,
            "select profile_id, relation, profile::text from ops.profiles where position($1 in profile::text) > 0",
            household,
        )
        changed = 0
        for number, relation, text in rows:
            profile = json.loads(text)
            names = self.where.names.get(relation, frozenset())
            theirs = [column for column in profile["columns"] if column["name"] in names]
            mine = [column for column in theirs if household in map(canonical, shown_values(column))]
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


def begin(settings: Settings, where: Map) -> Connection:
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
    connection: Connection, key: Key, subject: str, reason: str | None, requested_at: str | None = None
) -> int:
    """Return the number of a household's erasure, which is made if it is not there."""
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
    """Have Postgres remove the deleted rows from the tables' pages; see docs/engine/runbooks/forget-a-household.md."""
    with connect(settings, autocommit=True) as connection:
        for relation in sorted({place.relation for place in places} | {"ops.quarantine", "ops.profiles"}):
            if query(connection, "select to_regclass($1)::text", relation) != [(None,)]:
                execute(connection, f"vacuum {relation}")
    reached("forget-vacuumed")
