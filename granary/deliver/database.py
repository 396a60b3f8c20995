"""Another database: rows are upserted and deleted by key, in one transaction with the number of their batch.

The table `granary_deliveries`, beside the target table, has a row per delivery: the last batch that is there, and which
of its rows were refused. A batch that it names is there already, so each is applied once, whatever dies when.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from granary.readers.database.connecting import Database as Address
from granary.readers.database.connecting import quoted, words
from granary.warehouse.connection import reason
from granary.warehouse.errors import GranaryError, TransientError
from granary.warehouse.faults import fault_point

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from granary.deliver.records import Batch, Row
    from granary.deliver.sending import Sender
    from granary.deliver.spec import Database

MARK = "granary_deliveries"
TIMEOUT = timedelta(minutes=10)
TODO = "nothing is lost: run `granary deliver` again when the database is well"
ROWS_REFUSED = (1366, 3819, 4025)
"""Codes of MySQL and MariaDB that its driver counts among operational errors: a wrong value, a check that fails."""
MAKE_MARK = (
    "create table if not exists {} (delivery varchar(64) primary key, batch varchar(128) not null, publish_id bigint"
    " not null, refused text not null, delivered_at timestamp not null default current_timestamp)"
)


def open_database(target: Database, name: str) -> Sender:
    """Return what sends to a database.

    Raises:
        GranaryError: it is of a kind that nothing is delivered to.
    """
    address = Address(target.uri, TIMEOUT)
    if address.dialect == "postgresql":
        return PostgresSender(address, target.table, name)
    if address.dialect in ("mysql", "mariadb"):
        return MySqlSender(address, target.table, name)
    what = f"nothing is delivered to databases of kind {address.dialect!r}"
    raise GranaryError(what, f"delivery {name}", "deliver to Postgres, MySQL or MariaDB")


class _DatabaseSender:
    is_apart = False

    def __init__(self, address: Address, table: str, name: str) -> None:
        """Remember it; nothing is asked yet."""
        self.address, self.table, self.name = address, table, name
        self.where = f"{address.dialect}, {address.name}, table {table}"
        self.columns: tuple[str, ...] = ()

    def position(self) -> str | None:
        """Return nothing: the database itself has it."""
        return None

    def send_row(self, batch: Batch, row: Row) -> None:
        """Never asked for: a batch is one transaction."""
        raise NotImplementedError

    def _compared(self, columns: Mapping[str, str], there: Sequence[str]) -> None:
        """Remember the columns.

        Raises:
            GranaryError: the table is not there, or lacks one.
        """
        if not there:
            raise GranaryError(
                "the target has no such table", self.where, "make it, with a unique key of the key columns"
            )
        if missing := [one for one in columns if one not in there]:
            todo = "add them to the table, or leave them out of the delivery by a query"
            raise GranaryError(f"the target's table lacks columns: {', '.join(missing)}", self.where, todo)
        self.columns = tuple(columns)


class PostgresSender(_DatabaseSender):
    """Sends to a Postgres."""

    def __init__(self, address: Address, table: str, name: str) -> None:
        """Remember it; nothing is asked yet."""
        super().__init__(address, table, name)
        schema, _, last = table.rpartition(".")
        self.relation = sql.Identifier(schema, last) if schema else sql.Identifier(last)
        self.mark = sql.Identifier(schema, MARK) if schema else sql.Identifier(MARK)
        self._open: psycopg.Connection[Any] | None = None

    def check(self, columns: Mapping[str, str]) -> None:
        """Connect, and look at the table.

        Raises:
            GranaryError: the server does not answer, or the table cannot take the rows.
        """
        with self._explained(), self._session() as session:
            found = session.execute(
                "select attname from pg_attribute where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped",
                (self.relation.as_string(session),),
            )
            self._compared(columns, [str(name) for (name,) in found])
            is_there = "select to_regclass(%s) is not null"
            if session.execute(is_there, (self.mark.as_string(session),)).fetchone() != (True,):
                session.execute(sql.SQL(MAKE_MARK).format(self.mark))

    def send(self, batch: Batch) -> list[tuple[Row, str]]:
        """Apply a batch unless it is there."""
        key = tuple(json.loads(batch.rows[0].key)) if batch.rows else ()
        with self._explained(), self._session() as session:
            session.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"granary {self.name}",))
            known = sql.SQL("select refused from {} where delivery = %s and batch = %s").format(self.mark)
            there = session.execute(known, (self.name, batch.id)).fetchone()
            if there is not None:
                return [(batch.rows[place], str(why)) for place, why in json.loads(there[0])]
            refused: list[tuple[int, str]] = []
            try:
                with session.transaction():
                    self._apply(session, batch.rows, key)
            except (psycopg.IntegrityError, psycopg.DataError):
                for place, row in enumerate(batch.rows):
                    try:
                        with session.transaction():
                            self._apply(session, (row,), key)
                    except (psycopg.IntegrityError, psycopg.DataError) as error:
                        refused.append((place, _refusal(error)))
            fault_point("deliver-in-database")
            session.execute(
                sql.SQL(
                    "insert into {} (delivery, batch, publish_id, refused) values (%s, %s, %s, %s)"
                    " on conflict (delivery) do update set batch = excluded.batch, publish_id = excluded.publish_id,"
                    " refused = excluded.refused, delivered_at = current_timestamp"
                ).format(self.mark),
                (self.name, batch.id, batch.publish_id, json.dumps(refused)),
            )
        return [(batch.rows[place], why) for place, why in refused]

    def close(self) -> None:
        """Hang up."""
        if self._open is not None:
            self._open.close()

    def _apply(self, session: psycopg.Connection[Any], rows: Sequence[Row], key: Sequence[str]) -> None:
        """Delete, insert and update rows by key."""
        named = sql.SQL(", ").join(map(sql.Identifier, self.columns))
        keys = sql.SQL(", ").join(map(sql.Identifier, key))
        if gone := [row.key for row in rows if row.op == "delete"]:
            same = sql.SQL(" and ").join(sql.SQL("there.{0} = gone.{0}").format(sql.Identifier(one)) for one in key)
            session.execute(
                sql.SQL(
                    "delete from {0} as there using jsonb_populate_recordset(null::{0}, %s::jsonb) as gone where {1}"
                ).format(self.relation, same),
                (f"[{','.join(gone)}]",),
            )
        if come := [row.payload or "" for row in rows if row.op != "delete"]:
            rest = [one for one in self.columns if one not in key]
            changes = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(one)) for one in rest)
            then = sql.SQL("update set {}").format(changes) if rest else sql.SQL("nothing")
            session.execute(
                sql.SQL(
                    "insert into {0} ({1}) select {1} from jsonb_populate_recordset(null::{0}, %s::jsonb)"
                    " on conflict ({2}) do {3}"
                ).format(self.relation, named, keys, then),
                (f"[{','.join(come)}]",),
            )

    @contextmanager
    def _session(self) -> Iterator[psycopg.Connection[Any]]:
        """Yield a transaction."""
        if self._open is None or self._open.closed:
            self._open = psycopg.connect(self.address.libpq, prepare_threshold=None)
        with self._open.transaction():
            yield self._open

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except psycopg.OperationalError as error:
            self.close()
            self._open = None
            raise TransientError(f"the target does not answer: {reason(error)}", self.where, TODO) from None
        except psycopg.Error as error:
            todo = "see that the login may write there, and that the table has a unique key of the key columns"
            raise GranaryError(f"the target refuses it: {reason(error)}", self.where, todo) from None


class MySqlSender(_DatabaseSender):
    """Sends to a MySQL or MariaDB. A changed row is deleted and inserted, so no other unique key leads to a row."""

    def __init__(self, address: Address, table: str, name: str) -> None:
        """Make the engine; nothing is asked yet."""
        super().__init__(address, table, name)
        self.engine = address.engine(writes=True)
        schema, _, last = table.rpartition(".")
        self.schema, self.last = schema or None, last
        self.relation = quoted(self.engine.dialect, self.schema, last).replace("%", "%%")
        self.mark = quoted(self.engine.dialect, self.schema, MARK)

    def check(self, columns: Mapping[str, str]) -> None:
        """Connect, and look at the table; see `PostgresSender.check`."""
        with self._explained(), self.engine.connect() as session:
            found = session.exec_driver_sql(
                "select column_name, data_type from information_schema.columns"
                " where table_schema = coalesce(%s, database()) and table_name = %s",
                (self.schema, self.last),
            ).all()
            self.kinds = {str(name): str(kind).lower() for name, kind in found}
            self._compared(columns, list(self.kinds))
            session.exec_driver_sql(MAKE_MARK.format(self.mark))

    def send(self, batch: Batch) -> list[tuple[Row, str]]:
        """Apply a batch unless it is there."""
        with self._explained(), self.engine.connect() as session:
            session.exec_driver_sql("start transaction")
            known = f"select batch, refused from {self.mark} where delivery = %s for update"
            there = session.exec_driver_sql(known, (self.name,)).first()
            if there is not None and there[0] == batch.id:
                session.exec_driver_sql("rollback")
                return [(batch.rows[place], str(why)) for place, why in json.loads(there[1])]
            refused = self._applied(session, batch)
            fault_point("deliver-in-database")
            session.exec_driver_sql(
                f"replace into {self.mark} (delivery, batch, publish_id, refused) values (%s, %s, %s, %s)",
                (self.name, batch.id, batch.publish_id, json.dumps(refused)),
            )
            session.exec_driver_sql("commit")
        return [(batch.rows[place], why) for place, why in refused]

    def close(self) -> None:
        """Hang up."""
        self.engine.dispose()

    def _applied(self, session: Any, batch: Batch) -> list[tuple[int, str]]:
        """Apply rows, all at once or else one by one; return the places of those that are refused, and why."""
        from sqlalchemy import exc  # noqa: PLC0415

        session.exec_driver_sql("savepoint batch")
        try:
            self._apply(session, batch.rows)
        except exc.DBAPIError as error:
            if not _is_of_rows(error):
                raise
            session.exec_driver_sql("rollback to savepoint batch")
        else:
            return []
        refused = []
        for place, row in enumerate(batch.rows):
            session.exec_driver_sql("savepoint one")
            try:
                self._apply(session, (row,))
            except exc.DBAPIError as error:
                if not _is_of_rows(error):
                    raise
                session.exec_driver_sql("rollback to savepoint one")
                refused.append((place, words(error)))
        return refused

    def _apply(self, session: Any, rows: Sequence[Row]) -> None:
        quote = self.engine.dialect.identifier_preparer.quote
        key = tuple(json.loads(rows[0].key))
        same = " and ".join(f"{quote(one).replace('%', '%%')} = %s" for one in key)
        old = [self._values(row.key, key) for row in rows if row.op != "insert"]
        if old:
            session.exec_driver_sql(f"delete from {self.relation} where {same}", old)
        new = [self._values(row.payload or "", self.columns) for row in rows if row.op != "delete"]
        if new:
            named = ", ".join(quote(one).replace("%", "%%") for one in self.columns)
            places = ", ".join(["%s"] * len(self.columns))
            session.exec_driver_sql(f"insert into {self.relation} ({named}) values ({places})", new)

    def _values(self, text: str, columns: Sequence[str]) -> tuple[Any, ...]:
        found = json.loads(text, parse_float=Decimal)
        return tuple(_mysql(found[one], self.kinds[one]) for one in columns)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from sqlalchemy import exc  # noqa: PLC0415

        try:
            yield
        except exc.DBAPIError as error:
            is_away = error.connection_invalidated or isinstance(error, exc.OperationalError)
            kind = TransientError if is_away else GranaryError
            raise kind(f"the target refuses it: {words(error)}", self.where, TODO) from None


def _is_of_rows(error: Any) -> bool:
    """Return whether an error says that something is wrong with a row."""
    kind, code = type(error).__name__, (getattr(error.orig, "args", None) or [0])[0]
    return kind in ("IntegrityError", "DataError") or code in ROWS_REFUSED


def _mysql(value: Any, kind: str) -> Any:
    """Return a value of JSON as MySQL takes it, for a column of this type; times are in UTC there."""
    if isinstance(value, (dict, list)):
        return json.dumps(value, default=str)
    if isinstance(value, str):
        if kind in ("datetime", "timestamp"):
            at = datetime.fromisoformat(value.replace("Z", "+00:00"))
            return at.astimezone(timezone.utc).replace(tzinfo=None) if at.tzinfo else at
        if kind in ("blob", "longblob", "mediumblob", "tinyblob", "binary", "varbinary") and value.startswith("\\x"):
            return bytes.fromhex(value[2:])
    return value


def _refusal(error: psycopg.Error) -> str:
    """Return which rule a row breaks, without its values."""
    rule = error.diag.constraint_name or error.diag.column_name
    kind = type(error).__name__
    return f"{kind}: {rule}" if rule else kind
