"""The schema of a warehouse as text: two warehouses are alike when their texts are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from granary.warehouse.connection import connect, query

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

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
