"""The transactional writer: rows, ledger, watermark and refused rows of one table load, in one Postgres transaction.

That single commit is what makes a load exactly-once: a process killed before it leaves nothing, one killed after
it leaves everything, and the ledger that decides what to read next was written by the same commit.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psycopg
import pyarrow as pa

from granary.warehouse import raw_tables
from granary.warehouse.binary_copy import copy_into, copy_into_new
from granary.warehouse.connection import (
    LockHeldError,
    columns_of,
    connect,
    count,
    execute,
    lock,
    query,
    quote_name,
    reason,
)
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point
from granary.warehouse.records import LOAD_COLUMNS, LOAD_ID, ROW, Change, Target, sql_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

LOCK_WAIT_SECONDS = 120
"""How long a second loader of one source waits for the first before it refuses."""


class LoadTransaction:
    """One transaction of one source's loader; leaving the `with` block without an error commits it."""

    def __init__(
        self,
        settings: Settings,
        source: str,
        connection: Connection | None = None,
        *,
        wait_seconds: float | None = None,
    ) -> None:
        """Connect as the role `loader`, unless there is a connection to use, and take the source's lock.

        Raises:
            GranaryError: another loader of the source is still at work after so many seconds, by default
                `LOCK_WAIT_SECONDS`.
        """
        wait_seconds = LOCK_WAIT_SECONDS if wait_seconds is None else wait_seconds
        self.settings, self.source = settings, source
        self.kept = connection is not None
        self.connection = connection or connect(settings, role="loader")
        self.emptied: set[str] = set()
        try:
            lock(self.connection, f"load.{source}", wait_seconds)
        except LockHeldError as error:
            self._leave()
            raise GranaryError(
                f"another load of source {source} has been running for over {wait_seconds:g} s: {error.holder}",
                source,
                "wait for it, or end it",
            ) from None
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        """Roll back what is not committed; a connection that was not lent is closed."""
        if self.kept:
            with suppress(psycopg.Error):
                self.connection.rollback()
        else:
            self.connection.close()

    def __enter__(self) -> LoadTransaction:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit, or roll back when there was an error."""
        try:
            if kind is None:
                fault_point("before-commit")
                self.connection.commit()
                fault_point("after-commit")
        finally:
            self._leave()

    def execute(self, sql: str, *parameters: object) -> None:
        """Run one statement in the transaction."""
        execute(self.connection, sql, *parameters)

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run one query in the transaction."""
        return query(self.connection, sql, *parameters)

    def savepoint(self) -> None:
        """Mark the place that `undo` goes back to."""
        self.execute("savepoint here")
        self.emptied.clear()  # COPY FREEZE is for tables that were made or emptied since the last savepoint

    def undo(self) -> None:
        """Undo everything since `savepoint`, which stays."""
        self.execute("rollback to savepoint here")
        self.emptied.clear()

    # -- what is there ---------------------------------------------------------------------------------------

    def watermark(self, table: str) -> str | None:
        """Return how far the table has been read, or None before its first load."""
        rows = self.query("select value from ops.watermarks where source = $1 and table_name = $2", self.source, table)
        return str(rows[0][0]) if rows else None

    def next_load_ids(self, number: int) -> list[int]:
        """Return new load ids; those of one source commit in increasing order because of its lock."""
        return [
            int(row[0]) for row in self.query(f"select nextval('ops.load_id') from generate_series(1, {int(number)})")
        ]

    def rows(self, target: Target) -> int:
        """Return the number of rows in a raw table, 0 if it is missing."""
        if not self.columns(target):
            return 0
        return int(self.query(f"select count(*) from {target.sql_name}")[0][0])

    def columns(self, target: Target) -> dict[str, str]:
        """Return the columns of a raw table as it is: name -> Postgres type; nothing if it is missing."""
        return columns_of(self.connection, target.sql_name)

    def expected(self, target: Target) -> int:
        """Return the rows that a raw table is to hold, by what its loads did."""
        return raw_tables.expected(self.connection, target)

    def recount(self, target: Target) -> int:
        """Count a raw table, and keep that as what it is to hold."""
        return raw_tables.counted(self.connection, target)

    def lost(self, target: Target, *, by_load: bool) -> raw_tables.Lost | None:
        """Return how a raw table lacks rows that its loads brought; `by_load` as there."""
        return raw_tables.lost(self.connection, target, by_load=by_load)

    def note(self, target: Target, rows: int) -> None:
        """Keep that a raw table has so many rows more, or fewer; each method below that changes it does so itself."""
        raw_tables.note(self.connection, target, rows)

    def brought(self, target: Target) -> list[tuple[int, str, int, int]]:
        """Return the loads of a table whose units are replaced whole: (id, unit, rows loaded, rows that are there)."""
        return self.query(
            "select load_id, unit, rows_loaded, coalesce(held.row_count, 0) from ops.load_audit as l"
            f" left join (select {LOAD_ID} as id, count(*) as row_count from {target.sql_name} group by 1) as held"
            " on held.id = l.load_id where source = $1 and table_name = $2 and status = 'loaded'"
            " and superseded_by is null and archive_id is null order by load_id",
            self.source,
            target.table,
        )

    # -- what changes ----------------------------------------------------------------------------------------

    def ensure_table(self, target: Target, *, bulk: bool = False) -> list[Change]:
        """Create the raw table, add the columns that it lacks, widen those that are narrower; never drops one.

        With `bulk`, the index on the load id waits for `update_statistics`: made at once over 20.9 M rows
        it takes 2 s, grown range by range 6 s.

        Returns:
            What changed in a table that was there.

        Raises:
            GranaryError: a column is of a type that cannot be widened to the one that is wanted.
        """
        wanted = {field.name: sql_type(field.type) for field in [*target.schema, *LOAD_COLUMNS]}
        present = self.columns(target)
        if present:
            changes = []
            if bulk and target.sql_name not in self.emptied:
                self._freshen(target)
            for name, kind in wanted.items():
                if name not in present:
                    self.execute(f"alter table {target.sql_name} add column {quote_name(name)} {kind}")
                    changes.append(Change(name, "added", kind))
                elif present[name] != kind:
                    self._widen(target, name, kind)
                    changes.append(Change(name, "widened", f"{present[name]} became {kind}"))
            if target.key:
                self._ensure_key(target)
            return changes
        schema = quote_name(f"raw_{self.source}")
        self.execute(f"create schema if not exists {schema}")
        ((reader,),) = query(self.connection, "select ops.grantee('transformer')")
        self.execute(f"grant usage on schema {schema} to {reader}")
        required = {*target.key, LOAD_ID, ROW}
        columns = [
            f"{quote_name(name)} {kind}{' not null' if name in required else ''}" for name, kind in wanted.items()
        ]
        if target.key:
            columns.append(f"primary key ({', '.join(map(quote_name, target.key))})")
        self.execute(f"create table {target.sql_name} ({', '.join(columns)})")
        self.emptied.add(target.sql_name)
        if not bulk:
            self._index(target)
        return []

    def _freshen(self, target: Target) -> None:
        """Empty a table that holds nothing, so that a bulk load need not write its rows to the log as well."""
        if self.query(f"select 1 from {target.sql_name} limit 1"):
            return
        with suppress(psycopg.errors.LockNotAvailable), self.connection.transaction():
            # Where somebody looks at it, they are written twice.
            self.execute(f"lock table {target.sql_name} in access exclusive mode nowait")
            self.execute(f"truncate {target.sql_name}")
            self.emptied.add(target.sql_name)

    def _ensure_key(self, target: Target) -> None:
        """Give a table its key that was made when its contract had none: without it, a row could land twice.

        Raises:
            GranaryError: rows share a key already.
        """
        has = "select 1 from pg_index where indrelid = to_regclass($1) and indisprimary"
        if self.query(has, target.sql_name):
            return
        try:
            self.execute(f"alter table {target.sql_name} add primary key ({', '.join(map(quote_name, target.key))})")
        except psycopg.Error as error:
            raise GranaryError(
                f"the table cannot have its key: {reason(error)}",
                f"{self.source}.{target.table}",
                "remove the rows whose key is duplicate or missing, then load again",
            ) from None

    def _index(self, target: Target) -> None:
        """Make the index on the load id: loads append in order of it, so a block range index of some kilobytes does."""
        self.execute(f"create index on {target.sql_name} using brin ({LOAD_ID}) with (pages_per_range = 16)")

    def _indexes(self, target: Target) -> list[str]:
        """Return the block range indexes of a raw table, as SQL; a renamed table keeps its own."""
        return [
            str(row[0])
            for row in self.query(
                "select i.indexrelid::regclass::text from pg_index as i inner join pg_class as c"
                " on c.oid = i.indexrelid inner join pg_am as a on a.oid = c.relam"
                " where i.indrelid = to_regclass($1) and a.amname = 'brin'",
                target.sql_name,
            )
        ]

    def _widen(self, target: Target, column: str, kind: str) -> None:
        try:
            self.query("select ops.widen_column($1::text::regclass, $2::text::name, $3)", target.sql_name, column, kind)
        except psycopg.Error as error:
            raise GranaryError(
                error.diag.message_primary or reason(error),
                f"{self.source}.{target.table}",
                "keep the column's earlier type in the contract, or have its rows read again in the new one:"
                f" `granary load {self.source}.{target.table} --rebuild`",
            ) from None

    def truncate(self, target: Target) -> None:
        """Empty a raw table and forget its watermark."""
        self.execute(f"truncate {target.sql_name}")
        self.emptied.add(target.sql_name)
        for index in self._indexes(target):
            self.execute(f"drop index {index}")
        self.note(target, -self.expected(target))
        self.forget_position(target.table)

    def forget_position(self, table: str) -> None:
        """Forget how far a table was read, and which messages of a queue are in it."""
        for records in ("watermarks", "known_messages"):
            self.execute(f"delete from ops.{records} where source = $1 and table_name = $2", self.source, table)

    def delete_loads(self, target: Target, load_ids: Iterable[int]) -> int:
        """Delete the rows of some loads and return how many there were, those in an archive included."""
        ids = ", ".join(str(int(load_id)) for load_id in load_ids)
        if not ids:
            return 0
        deleted = count(self.connection, f"delete from {target.sql_name} where {LOAD_ID} in ({ids})")
        self.note(target, -deleted)
        apart = f"select coalesce(sum(rows_loaded), 0)::bigint from ops.load_audit where load_id in ({ids})"
        ((archived,),) = self.query(f"{apart} and archive_id is not null and superseded_by is null")
        return deleted + int(archived)

    def update_statistics(self, target: Target, changed: int) -> None:
        """Have the block range index and the planner know the rows that have just come; models read them next.

        Statistics are made anew when over a twentieth of the rows changed; for less, autovacuum is soon enough.
        """
        found = self.query(
            "select brin_summarize_new_values(i.indexrelid), c.reltuples from pg_index as i"
            " inner join pg_class as c on c.oid = i.indrelid inner join pg_class as x on x.oid = i.indexrelid"
            " inner join pg_am as a on a.oid = x.relam where i.indrelid = to_regclass($1) and a.amname = 'brin'",
            target.sql_name,
        )
        if not found:
            self._index(target)
            found = self.query("select 0, reltuples from pg_class where oid = to_regclass($1)", target.sql_name)
        if changed * 20 > found[0][1]:
            self.execute(f"analyze {target.sql_name}")

    def copy(self, target: Target, batches: Iterable[pa.RecordBatch]) -> int:
        """Append record batches by binary COPY, of the target's schema plus the load columns; return their rows."""
        rows = 0

        def counted() -> Iterator[pa.RecordBatch]:
            nonlocal rows
            for batch in batches:
                rows += batch.num_rows
                yield batch

        copy_into(self.connection, target.sql_name, counted(), frozen=target.sql_name in self.emptied)
        self.note(target, rows)
        return rows

    def add(self, target: Target, batches: Iterable[pa.RecordBatch]) -> int:
        """Insert rows whose key is not there yet; the first row of a key counts. Returns the rows inserted."""
        names = ", ".join(quote_name(field.name) for field in [*target.schema, *LOAD_COLUMNS])
        copy_into_new(self.connection, "append_stage", pa.schema([*target.schema, *LOAD_COLUMNS]), batches)
        added = count(
            self.connection,
            f"insert into {target.sql_name} ({names}) select {names} from append_stage"
            f" order by {LOAD_ID}, {ROW} on conflict do nothing",
        )
        self.execute("drop table append_stage")
        self.note(target, added)
        return added

    def merge(
        self,
        target: Target,
        batches: Iterable[pa.RecordBatch],
        *,
        complete: Callable[[], bool],
        cursor: str | None = None,
        of_units: Mapping[str, bool] | None = None,
    ) -> tuple[int, int]:
        """Insert new keys and update changed rows; when `complete`, delete keys that the batches lack.

        Whether they are complete is asked when all of them have come. Of `of_units`, they have all rows: keys that
        came from there, and that the batches lack, are deleted; where the unit is new or corrected (True), so are
        those of its rows that were replayed from the quarantine.

        A row that did not change keeps its load id, so reading the same rows again changes nothing. A key that is
        given twice counts with its last row. With a `cursor`, a row that is older than the one that is there is
        left out: a replayed row must not undo a later change.

        Returns:
            Rows inserted or changed, and rows deleted.
        """
        columns = [field.name for field in [*target.schema, *LOAD_COLUMNS]]
        names = ", ".join(map(quote_name, columns))
        key = ", ".join(map(quote_name, target.key))
        values = [quote_name(name) for name in columns if name not in (*target.key, LOAD_ID, ROW)]
        copy_into_new(self.connection, "merge_stage", pa.schema([*target.schema, *LOAD_COLUMNS]), batches)
        self.execute(
            f"create temporary table merge_rows on commit drop as select distinct on ({key}) {names}"
            f" from merge_stage order by {key}, {LOAD_ID} desc, {ROW} desc"
        )
        differs = "(" + (" or ".join(f"old.{name} is distinct from new.{name}" for name in values) or "false") + ")"
        if cursor:
            differs += f" and not coalesce(new.{quote_name(cursor)} < old.{quote_name(cursor)}, false)"
        matches = " and ".join(f"old.{quote_name(name)} = new.{quote_name(name)}" for name in target.key)
        assign = ", ".join(f"{quote_name(n)} = new.{quote_name(n)}" for n in columns if n not in target.key)
        changed = count(
            self.connection,
            f"update {target.sql_name} as old set {assign} from merge_rows as new where {matches} and {differs}",
        )
        added = count(
            self.connection,
            f"insert into {target.sql_name} ({names}) select {names} from merge_rows as new"
            f" where not exists (select 1 from {target.sql_name} as old where {matches})",
        )
        deleted = 0
        lacking = (
            f"delete from {target.sql_name} as old where not exists (select 1 from merge_rows as new where {matches})"
        )
        if complete():
            deleted = count(self.connection, lacking)
        elif of_units:
            ((deleted,),) = self.query(
                f"with gone as ({lacking} and old.{LOAD_ID} in (select load_id from ops.load_audit where source = $1"
                " and table_name = $2 and (unit = any($3::text[]) or (unit = any($4::text[])"
                " and fingerprint is not null))) returning 1) select count(*)::integer from gone",
                target.source,
                target.table,
                [name for name, is_new in of_units.items() if is_new],
                [name for name, is_new in of_units.items() if not is_new],
            )
        self.execute("drop table merge_stage, merge_rows")
        self.note(target, added - deleted)
        return changed + added, deleted

    def supersede(self, replaced: dict[int, int]) -> None:
        """Mark loads as replaced: earlier load id -> the load id that took its place."""
        for earlier, later in replaced.items():
            self.execute("update ops.load_audit set superseded_by = $1 where load_id = $2", later, earlier)

    def supersede_all(self, table: str, load_id: int) -> None:
        """Mark every active load of a table as replaced by `load_id`, but for those whose rows are in an archive."""
        self.execute(
            "update ops.load_audit set superseded_by = $1 where source = $2 and table_name = $3"
            " and status in ('loaded', 'unreadable') and superseded_by is null and load_id <> $1"
            " and archive_id is null",
            load_id,
            self.source,
            table,
        )

    def see_version(self, table: str, unit: str, fingerprint: str, version: str | None) -> None:
        """Remember that a unit's content is known under one more version: it was touched, not changed."""
        self.execute(
            "update ops.load_audit set version = $1 where source = $2 and table_name = $3 and unit = $4"
            " and fingerprint = $5 and superseded_by is null",
            version,
            self.source,
            table,
            unit,
            fingerprint,
        )

    def set_watermark(self, table: str, value: str, load_id: int) -> None:
        """Move the table's watermark."""
        self.execute(
            "insert into ops.watermarks (source, table_name, value, load_id) values ($1, $2, $3, $4)"
            " on conflict (source, table_name) do update set value = excluded.value, load_id = excluded.load_id,"
            " updated_at = clock_timestamp()",
            self.source,
            table,
            value,
            load_id,
        )
