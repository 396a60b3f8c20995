"""The transactional writer: rows, ledger, watermark and refused rows of one table load, in one Postgres transaction.

That single commit is what makes a load exactly-once: a process killed before it leaves nothing, one killed after
it leaves everything, and the ledger that decides what to read next was written by the same commit.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from warehouse.connection import connect, execute, query, quote_name
from warehouse.errors import GranaryError
from warehouse.records import AUDIT_SCHEMA, LOAD_COLUMNS, LOAD_ID, ROW, Audit, Refusal, Target, sql_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from warehouse.connection import Connection
    from warehouse.settings import Settings

LOCK_WAIT_SECONDS = 120
"""How long a second loader of one source waits for the first before it refuses."""


class LoadTransaction:
    """One transaction of one source's loader; leaving the `with` block without an error commits it."""

    def __init__(self, settings: Settings, source: str) -> None:
        """Connect as the role `loader` and take the source's lock.

        Raises:
            GranaryError: another loader of the source is still at work after `LOCK_WAIT_SECONDS`.
        """
        self.source = source
        self.connection = connect(settings, role="loader")
        try:
            execute(self.connection, f"set local lock_timeout = '{LOCK_WAIT_SECONDS}s'")
            execute(self.connection, "select pg_advisory_xact_lock(hashtextextended($1, 0))", f"granary.load.{source}")
            execute(self.connection, "set local lock_timeout = 0")
        except Exception as error:
            self.connection.close()
            if "lock timeout" in str(error):
                raise GranaryError(
                    f"another load of source {source} has been running for over {LOCK_WAIT_SECONDS} s",
                    source,
                    "wait for it, or end it",
                ) from None
            raise

    def __enter__(self) -> LoadTransaction:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit, or roll back when there was an error."""
        try:
            if kind is None:
                self.connection.commit()
        finally:
            self.connection.close()

    def execute(self, sql: str, *parameters: object) -> None:
        """Run one statement in the transaction."""
        execute(self.connection, sql, *parameters)

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run one query in the transaction."""
        return query(self.connection, sql, *parameters)

    # -- what is there ---------------------------------------------------------------------------------------

    def landed(self, table: str) -> dict[str, tuple[str, int]]:
        """Return the units that the raw table holds now: unit -> (fingerprint, load id)."""
        return landed(self.connection, self.source, table)

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
        if not self._columns(target):
            return 0
        return int(self.query(f"select count(*) from {target.sql_name}")[0][0])

    def _columns(self, target: Target) -> dict[str, str]:
        return {
            str(name): str(kind)
            for name, kind in self.query(
                "select attname::text, format_type(atttypid, atttypmod) from pg_attribute"
                " where attrelid = to_regclass($1) and attnum > 0 and not attisdropped",
                target.sql_name,
            )
        }

    # -- what changes ----------------------------------------------------------------------------------------

    def ensure_table(self, target: Target) -> list[str]:
        """Create the raw table, or add the columns that it lacks; never drops or retypes one.

        Returns:
            The names of the columns that were not there.
        """
        wanted = {field.name: sql_type(field.type) for field in [*target.schema, *LOAD_COLUMNS]}
        present = self._columns(target)
        if present:
            new = [name for name in wanted if name not in present]
            for name in new:
                self.execute(f"alter table {target.sql_name} add column {quote_name(name)} {wanted[name]}")
            return new
        schema = quote_name(f"raw_{self.source}")
        self.execute(f"create schema if not exists {schema}")
        self.execute(f"grant usage on schema {schema} to transformer")
        required = {*target.key, LOAD_ID, ROW}
        columns = [
            f"{quote_name(name)} {kind}{' not null' if name in required else ''}" for name, kind in wanted.items()
        ]
        if target.key:
            columns.append(f"primary key ({', '.join(map(quote_name, target.key))})")
        self.execute(f"create table {target.sql_name} ({', '.join(columns)})")
        # Loads append in order of their id, so a block range index of a few kilobytes finds a load's rows.
        self.execute(
            f"create index {quote_name(_brin(target))} on {target.sql_name} using brin ({LOAD_ID})"
            " with (pages_per_range = 16)"
        )
        return list(wanted)

    def truncate(self, target: Target) -> int:
        """Empty a raw table and forget its ledger and watermark; return the rows that it held."""
        rows = self.rows(target)
        if rows:
            self.execute(f"truncate {target.sql_name}")
        self.execute("delete from ops.watermarks where source = $1 and table_name = $2", self.source, target.table)
        return rows

    def delete_load(self, target: Target, load_id: int) -> int:
        """Delete the rows of one load and return how many there were."""
        return self._count(f"delete from {target.sql_name} where {LOAD_ID} = {int(load_id)}")

    def digest(self, target: Target) -> None:
        """Have the planner and the block range index know the rows that have just come; models read them next."""
        name = f"{quote_name('raw_' + self.source)}.{quote_name(_brin(target))}"
        self.query("select brin_summarize_new_values($1::text::regclass)", name)
        self.execute(f"analyze {target.sql_name}")

    def copy(self, target: Target, batches: pa.RecordBatchReader) -> None:
        """Append record batches by binary COPY; their schema is the target's plus the load columns."""
        with self.connection.cursor() as cursor:
            cursor.adbc_ingest(target.table, batches, mode="append", db_schema_name=f"raw_{self.source}")

    def merge(self, target: Target, batches: pa.RecordBatchReader, *, complete: bool) -> tuple[int, int]:
        """Insert new keys and update changed rows; when `complete`, delete keys that the batches lack.

        A row that did not change keeps its load id, so reading the same rows again changes nothing. A key that is
        given twice counts with its last row.

        Returns:
            Rows inserted or changed, and rows deleted.
        """
        columns = [field.name for field in [*target.schema, *LOAD_COLUMNS]]
        names = ", ".join(map(quote_name, columns))
        key = ", ".join(map(quote_name, target.key))
        values = [quote_name(name) for name in columns if name not in (*target.key, LOAD_ID, ROW)]
        with self.connection.cursor() as cursor:
            cursor.adbc_ingest("merge_stage", batches, mode="create", temporary=True)
        self.execute(
            f"create temporary table merge_rows on commit drop as select distinct on ({key}) {names}"
            f" from merge_stage order by {key}, {LOAD_ID} desc, {ROW} desc"
        )
        differs = " or ".join(f"old.{name} is distinct from new.{name}" for name in values) or "false"
        matches = " and ".join(f"old.{quote_name(name)} = new.{quote_name(name)}" for name in target.key)
        assign = ", ".join(f"{quote_name(n)} = new.{quote_name(n)}" for n in columns if n not in target.key)
        changed = self._count(
            f"update {target.sql_name} as old set {assign} from merge_rows as new where {matches} and ({differs})"
        ) + self._count(
            f"insert into {target.sql_name} ({names}) select {names} from merge_rows as new"
            f" where not exists (select 1 from {target.sql_name} as old where {matches})"
        )
        deleted = 0
        if complete:
            deleted = self._count(
                f"delete from {target.sql_name} as old"
                f" where not exists (select 1 from merge_rows as new where {matches})"
            )
        self.execute("drop table merge_stage")
        return changed, deleted

    def _count(self, sql: str) -> int:
        """Run a data-changing statement and return how many rows it touched."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return int(cursor.rowcount)

    def supersede(self, replaced: dict[int, int]) -> None:
        """Mark loads as replaced: earlier load id -> the load id that took its place."""
        for earlier, later in replaced.items():
            self.execute("update ops.load_audit set superseded_by = $1 where load_id = $2", later, earlier)

    def record(self, audits: Sequence[Audit]) -> None:
        """Write the ledger rows of a load."""
        record(self.connection, audits)

    def supersede_all(self, table: str, load_id: int) -> None:
        """Mark every active load of a table as replaced by `load_id`."""
        self.execute(
            "update ops.load_audit set superseded_by = $1 where source = $2 and table_name = $3"
            " and status = 'loaded' and superseded_by is null and load_id <> $1",
            load_id,
            self.source,
            table,
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

    def quarantine(self, table: str, contract: int, refused: Iterable[tuple[str, int, Refusal]]) -> None:
        """Keep refused rows as they were received: (unit, load id, refusal)."""
        names = ("load_id", "source", "table_name", "unit", "row_number", "column_name", "reason", "payload")
        rows = [
            (load_id, self.source, table, unit, refusal.row, refusal.column, refusal.reason, _json(refusal.payload))
            for unit, load_id, refusal in refused
        ]
        if not rows:
            return
        with self.connection.cursor() as cursor:
            cursor.adbc_ingest(
                "refused_rows",
                pa.table(list(map(pa.array, zip(*rows, strict=True))), names=names),
                mode="create",
                temporary=True,
            )
        self.execute(
            f"insert into ops.quarantine ({', '.join(names)}, contract_version)"
            f" select {', '.join(names[:-1])}, payload::jsonb, {int(contract)} from refused_rows"
        )
        self.execute("drop table refused_rows")

    def schema_change(self, table: str, load_id: int, column: str, change: str, detail: str) -> None:
        """Keep a difference between the contract and what the source delivered."""
        schema_change(self.connection, self.source, table, load_id, column, change, detail)


def _brin(target: Target) -> str:
    """Return the name of the raw table's index on the load id."""
    return f"{target.table}_{LOAD_ID.strip('_')}"


def landed(connection: Connection, source: str, table: str) -> dict[str, tuple[str, int]]:
    """Return the units that a raw table holds now: unit -> (fingerprint, load id)."""
    return {
        str(unit): (str(fingerprint), int(str(load_id)))
        for unit, fingerprint, load_id in query(
            connection,
            "select unit, fingerprint, load_id from ops.load_audit where source = $1 and table_name = $2"
            " and status = 'loaded' and superseded_by is null and fingerprint is not null",
            source,
            table,
        )
    }


def record(connection: Connection, audits: Sequence[Audit]) -> None:
    """Append rows to ops.load_audit."""
    rows = [vars(audit) | {"table_name": audit.table} for audit in audits]
    with connection.cursor() as cursor:
        cursor.adbc_ingest(
            "load_audit", pa.Table.from_pylist(rows, schema=AUDIT_SCHEMA), mode="append", db_schema_name="ops"
        )


def _json(payload: dict[str, Any]) -> str:
    """Return a refused row as JSON that jsonb can hold, which has no NUL character."""
    return json.dumps(payload, default=str).replace("\\u0000", "\\ufffd")


def schema_change(
    connection: Connection, source: str, table: str, load_id: int, column: str, change: str, detail: str
) -> None:
    """Insert one row into ops.schema_changes."""
    execute(
        connection,
        "insert into ops.schema_changes (load_id, source, table_name, column_name, change, detail)"
        " values ($1, $2, $3, $4, $5, $6)",
        load_id,
        source,
        table,
        column,
        change,
        detail,
    )
