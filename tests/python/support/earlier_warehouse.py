"""Warehouses as earlier versions made them, with rows; and schemas as text: two are alike when their texts are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from granary.warehouse.connection import connect, execute, query
from granary.warehouse.psql import psql

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]

SCHEMAS = Path(__file__).with_name("schemas")
"""What earlier versions applied with psql at each start: the first of all, and the last before they were numbered."""
LOADED = (
    "create schema raw_shop",
    "create table raw_shop.orders (id integer, _load_id bigint)",
    "insert into raw_shop.orders values (1, 1), (2, 1), (3, 2)",
    "insert into ops.load_audit (load_id, run_id, source, table_name, unit, fingerprint, status,"
    " rows_read, rows_loaded, rows_quarantined, rows_deleted, bytes, seconds, started_at) values"
    " (1, 'r', 'shop', 'orders', 'a.csv', 'x', 'loaded', 2, 2, 0, 0, 10, 1, now()),"
    " (2, 'r', 'shop', 'orders', 'b.csv', 'y', 'loaded', 2, 1, 1, 0, 10, 1, now())",
    "insert into ops.watermarks (source, table_name, value, load_id) values ('shop', 'orders', '3', 2)",
)
REFUSED = (
    "insert into ops.quarantine ({}load_id, source, table_name, unit, row_number, column_name, reason, payload,"
    " contract_version) values ({}2, 'shop', 'orders', 'b.csv', 2, 'id', 'no number', '{{}}', 1)"
)

# Columns are compared by name: one that was added later stands at the end of its table.
PARTS = """
with relations as (
    select oid, relname, relkind, relowner, relacl from pg_class
    where relnamespace = 'ops'::regnamespace and relkind in ('r', 'v', 'S')
)
select format('%s %s of %s', relkind, relname, pg_get_userbyid(relowner)) from relations
union all
select format('comment on %s: %s', r.relname, d.description)
from relations as r inner join pg_description as d on d.objoid = r.oid and d.classoid = 'pg_class'::regclass
union all
select format(
    'column %s.%s %s%s default %s %s', r.relname, a.attname, format_type(a.atttypid, a.atttypmod),
    case when a.attnotnull then ' not null' end, pg_get_expr(d.adbin, d.adrelid), a.attidentity
)
from relations as r
inner join pg_attribute as a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
where r.relkind <> 'S'
union all
select format('constraint %s on %s: %s', c.conname, r.relname, pg_get_constraintdef(c.oid))
from relations as r inner join pg_constraint as c on c.conrelid = r.oid
union all
select pg_get_indexdef(i.indexrelid) from relations as r inner join pg_index as i on i.indrelid = r.oid
union all
select format('view %s: %s', relname, pg_get_viewdef(oid)) from relations where relkind = 'v'
union all
select format('function of %s: %s', pg_get_userbyid(proowner), pg_get_functiondef(oid))
from pg_proc where pronamespace = 'ops'::regnamespace
union all
select format('trigger %s calls %s', evtname, evtfoid::regproc) from pg_event_trigger
union all
select format('%s may %s %s%s', pg_get_userbyid(g.grantee), g.privilege_type, g.relname, ' (' || g.attname || ')')
from (
    select relname, null as attname, (aclexplode(relacl)).* from relations
    union all
    select r.relname, a.attname, (aclexplode(a.attacl)).*
    from relations as r inner join pg_attribute as a on a.attrelid = r.oid
    union all
    select proname, null, (aclexplode(proacl)).* from pg_proc where pronamespace = 'ops'::regnamespace
    union all
    select nspname, null, (aclexplode(nspacl)).* from pg_namespace where nspname = 'ops'
    union all
    select 'the database', null, (aclexplode(datacl)).* from pg_database where datname = current_database()
) as g (relname, attname, grantor, grantee, privilege_type, is_grantable)
order by 1
"""


def schema_text(settings: Settings) -> list[str]:
    """Return what `ops` holds and who may do what, in lines."""
    with connect(settings) as connection:
        return [str(line) for (line,) in query(connection, PARTS)]


def earlier(warehouse: Settings, schema: str) -> None:
    """Make the warehouse one of an earlier version, with rows in raw, ledger and quarantine."""
    with connect(warehouse, autocommit=True) as connection:
        for trigger in ("granary_schemas", "granary_changes", "granary_drops"):
            execute(connection, f"drop event trigger if exists {trigger}")
        execute(connection, "drop schema ops cascade")
    started = psql(
        warehouse,
        "--quiet",
        "--set=ON_ERROR_STOP=1",
        f"--set=EMBEDDED={'off' if warehouse.external else 'on'}",
        f"--file={SCHEMAS / schema}",
        capture=True,
    )
    assert started.returncode == 0, started.stderr
    identity = ("", "") if schema == "first.sql" else ("identity, ", "'2', ")
    with connect(warehouse) as connection:
        for statement in (*LOADED, REFUSED.format(*identity)):
            execute(connection, statement)
        connection.commit()


def content(rows: Rows) -> list[object]:
    """Return what was in the warehouse before."""
    return [
        rows("select id, _load_id from raw_shop.orders order by id"),
        rows("select load_id, unit, status, rows_read, rows_loaded, rows_quarantined from ops.load_audit order by 1"),
        rows("select value, load_id from ops.watermarks"),
        rows("select load_id, row_number, reason from ops.quarantine"),
    ]


CONTENT = [
    [(1, 1), (2, 1), (3, 2)],
    [(1, "a.csv", "loaded", 2, 2, 0), (2, "b.csv", "loaded", 2, 1, 1)],
    [("3", 2)],
    [(2, 2, "no number")],
]
