"""What the source must be like before anything is captured, asked of its catalogue; every refusal says what to run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granary.cdc.postgres.schema_changes import Shape, heirs
from granary.cdc.postgres.state import TableState
from granary.cdc.rows import source_names
from granary.warehouse.connection import quote_name
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.cdc.postgres.origin import Origin
    from granary.sources.spec import Table

SERVER = """
select current_setting('wal_level'), current_setting('server_encoding'), current_user::text,
    coalesce((select rolreplication or rolsuper from pg_roles where rolname = current_user), false)
"""

PUBLICATION = """
select to_jsonb(p)::text from pg_publication as p where pubname = $1
"""

MAY_CREATE = "select has_database_privilege(current_database(), 'create')"
OWNED = """
select pg_has_role(c.relowner, 'usage') from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
where n.nspname = $1 and c.relname = $2
"""

TABLE = """
select c.oid::bigint, c.relkind::text, has_schema_privilege(n.oid, 'usage'), has_table_privilege(c.oid, 'select'),
    coalesce((select to_jsonb(t)::text from pg_publication_tables as t
        where t.pubname = $1 and t.schemaname = $2 and t.tablename = $3), ''),
    (select jsonb_object_agg(a.attname, jsonb_build_array(format_type(a.atttypid, a.atttypmod), a.attgenerated,
            coalesce(c.relreplident = 'f' or a.attnum = any((i.indkey::int2[])[0:i.indnkeyatts - 1]), false))
        order by a.attnum)::text
        from pg_attribute as a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
    (select string_agg(distinct l.relreplident::text, '') from pg_partition_tree(c.oid) as p
        join pg_class as l on l.oid = p.relid where p.isleaf),
    coalesce((select jsonb_agg((select jsonb_agg(a.attname) from pg_attribute as a
            where a.attrelid = c.oid and a.attnum = any((u.indkey::int2[])[0:u.indnkeyatts - 1])))::text
        from pg_index as u where u.indrelid = c.oid and u.indisunique and u.indimmediate and u.indisvalid
            and u.indpred is null and u.indexprs is null), '[]'),
    c.relreplident::text
from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
left join pg_index as i on i.indrelid = c.oid and i.indisvalid and i.indimmediate
    and (c.relreplident in ('d', 'n') and i.indisprimary or c.relreplident = 'i' and i.indisreplident)
where n.nspname = $2 and c.relname = $3 and c.relkind in ('r', 'p')
"""


@dataclass(frozen=True)
class Origins:
    """A captured table at the source: its oid, its published columns in order, their types, and a row filter or ''.

    `shape` is what else its catalogue says; rows that were altered without a word in the log are known by it.
    """

    schema: str
    name: str
    oid: int
    types: dict[str, str]
    filter: str
    shape: Shape

    @property
    def sql_name(self) -> str:
        """The quoted, qualified name."""
        return f"{quote_name(self.schema)}.{quote_name(self.name)}"

    @property
    def state(self) -> TableState:
        """What is remembered of it."""
        return TableState(self.oid, self.types, self.shape)


def place(table: Table) -> tuple[str, str]:
    """Return the schema and the name of a table at the source; "schema.table", a name may hold further dots."""
    schema, dot, name = table.location.partition(".")
    return (schema, name) if dot else ("public", schema)


def ensure_publication(origin: Origin, tables: Sequence[Table]) -> bool:
    """Make the publication if it is missing; return whether it was made.

    Raises:
        GranaryError: it is missing, and the role may not make it.
    """
    if origin.query(PUBLICATION, origin.capture.publication):
        return False
    sql = publication_sql(origin, tables)
    try:
        origin.query(sql)
    except GranaryError as error:
        raise GranaryError(
            f"publication {origin.capture.publication} is missing, and our role may not create it: {error.what}",
            origin.where,
            f"have the tables' owner run: {sql}",
        ) from None
    return True


def publication_sql(origin: Origin, tables: Sequence[Table]) -> str:
    """Return the statement that makes the publication."""
    names = ", ".join(".".join(map(quote_name, place(table))) for table in tables)
    options = "publish_via_partition_root = true"
    if origin.server().version >= 180000:  # noqa: PLR2004 - older servers never publish generated columns
        options += ", publish_generated_columns = stored"
    return f"create publication {quote_name(origin.capture.publication)} for table {names} with ({options})"


def may_publish(origin: Origin, tables: Sequence[Table]) -> bool:
    """Return whether our role may make the publication: on the database, and as the owner of each table."""
    owned = [origin.query(OWNED, *place(table)) for table in tables]
    return bool(origin.query(MAY_CREATE)[0][0]) and all(rows and rows[0][0] for rows in owned)


def check_server(origin: Origin) -> None:
    """Refuse a server or a role that cannot serve logical replication.

    Raises:
        GranaryError: it says what is missing, and the statement that fixes it.
    """
    wal_level, encoding, user, may = origin.query(SERVER)[0]
    if wal_level != "logical":
        raise GranaryError(
            f"the source writes its log at wal_level = {wal_level}",
            origin.where,
            "run `alter system set wal_level = logical` there and restart it",
        )
    if encoding == "SQL_ASCII":
        raise GranaryError("the source's encoding is SQL_ASCII: its text has no known encoding", origin.where)
    if not may:
        raise GranaryError(
            f"role {user} may not replicate", origin.where, f"run `alter role {quote_name(user)} replication` there"
        )


def look(origin: Origin, tables: Sequence[Table]) -> dict[str, Origins]:
    """Return the captured tables as the source has them now, by the contract's name.

    Raises:
        GranaryError: one cannot be captured as it is; it says why and what to run.
    """
    published = origin.query(PUBLICATION, origin.capture.publication)
    if not published:
        raise GranaryError(
            f"publication {origin.capture.publication} is gone",
            origin.where,
            f"have the tables' owner run: {publication_sql(origin, tables)}; then `granary capture SOURCE --snapshot`",
        )
    publication = json.loads(published[0][0])
    lacking = [what for what in ("insert", "update", "delete", "truncate") if not publication[f"pub{what}"]]
    if lacking:
        raise GranaryError(
            f"publication {origin.capture.publication} leaves out {', '.join(lacking)}",
            origin.where,
            f"run `alter publication {quote_name(origin.capture.publication)}"
            " set (publish = 'insert, update, delete, truncate')` there",
        )
    return {table.name: _table(origin, table) for table in tables}


def check_rights(origin: Origin, table: Table) -> tuple[Any, ...]:
    """Return what the source's catalogue says of a table, if our role may read it.

    Raises:
        GranaryError: there is no such table, or our role may not read it; it says the statement that fixes it.
    """
    schema, name = place(table)
    where = f"{origin.where}, {schema}.{name}"
    rows = origin.query(TABLE, origin.capture.publication, schema, name)
    if not rows:
        raise GranaryError("the source has no such table", where, "fix the table's location in ingestion/")
    oid, kind, enters, reads, *described = rows[0]
    if not enters:
        todo = f"run `grant usage on schema {quote_name(schema)} to` our role there"
        raise GranaryError(f"our role may not use the schema {schema}", where, todo)
    if not reads:
        todo = f"run `grant select on {quote_name(schema)}.{quote_name(name)} to` our role there"
        raise GranaryError("our role may not read the table", where, todo)
    return (oid, kind, *described)


def _table(origin: Origin, table: Table) -> Origins:
    schema, name = place(table)
    where, sql_name = f"{origin.where}, {schema}.{name}", f"{quote_name(schema)}.{quote_name(name)}"
    oid, kind, published, described, leaves, unique, identity = check_rights(origin, table)
    publication = quote_name(origin.capture.publication)
    if not published:
        raise GranaryError(
            f"publication {origin.capture.publication} does not have the table",
            where,
            f"run `alter publication {publication} add table {sql_name}` there"
            + (f" and `alter publication {publication} set (publish_via_partition_root = true)`" if kind == "p" else "")
            + "; then `granary capture SOURCE`",
        )
    entry = json.loads(published)
    columns: dict[str, list[Any]] = json.loads(described)
    order = entry.get("attnames") or [column for column, (_, generated, _) in columns.items() if not generated]
    types = {column: columns[column][0] for column in order}
    _check_key(table, types, columns, where)
    _check_identity(table, columns, identity if kind == "r" else leaves or "d", where, sql_name)
    _check_unique(table, json.loads(unique), where)
    if children := heirs(origin, schema, name):
        raise GranaryError(
            f"tables inherit from it ({', '.join(children)}), and their rows do not arrive under its name",
            where,
            "capture each table that inherits by itself, or make it a partitioned table",
        )
    shape = Shape.look(origin, schema, name)
    return Origins(schema, name, int(oid), types, entry.get("rowfilter") or "", shape)


def _check_key(table: Table, types: dict[str, str], columns: dict[str, list[Any]], where: str) -> None:
    """Refuse a contract whose columns the publication leaves out; one that was dropped is null from then on."""
    for column in table.columns:
        names = (column.name, *column.aliases)
        if any(name in types for name in names):
            continue
        hidden = next((name for name in names if name in columns), None)
        if hidden is not None:
            how = "is generated, and generated columns are not published" if columns[hidden][1] else "is not published"
            raise GranaryError(
                f"column {hidden} {how}",
                where,
                "publish it (from Postgres 18 on: publish_generated_columns = stored), or take it out of the contract",
            )
        if column.name in table.key:
            raise GranaryError(f"the source has no column {column.name}, which is the key", where, "fix the contract")


def _check_identity(table: Table, columns: dict[str, list[Any]], identities: str, where: str, sql_name: str) -> None:
    """Refuse a table whose updates and deletes would not say which row they mean."""
    names = source_names(table)
    identifying = {names.get(column) for column, (_, _, identifies) in columns.items() if identifies}
    if "n" in identities or not set(table.key) <= identifying:
        raise GranaryError(
            f"the replica identity of the table does not tell its rows apart by {', '.join(table.key)}",
            where,
            f"give it a primary key on that, or run `alter table {sql_name} replica identity full` there",
        )


def _check_unique(table: Table, unique: list[list[str]], where: str) -> None:
    names = source_names(table)
    if not any({names.get(column) for column in index} <= set(table.key) for index in unique):
        raise GranaryError(
            f"no unique index of the source keeps {', '.join(table.key)} from being there twice",
            where,
            "make the contract's key that of a primary key or unique index which is not deferrable",
        )
