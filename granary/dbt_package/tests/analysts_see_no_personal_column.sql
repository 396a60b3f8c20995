{{ config(meta={'dagster': {'ref': {'name': 'restatements'}}}) }}

-- The roles analyst and auditor read neither the tables behind masked marts nor what is being built, and each mart with
-- columns to mask is a view that masks them; one that this run builds, or that waits to be published, becomes one then.
-- depends_on: {{ ref('restatements') }}
{%- set masked = [] %}
{%- for node in (granary.marts() if execute else {}).values() if node.unique_id not in selected_resources %}
{%- for column in granary.masked_columns(node) %}
{%- do masked.append("('" ~ granary.published_schema() ~ '.' ~ node.alias ~ "', '" ~ column ~ "')") %}
{%- endfor %}
{%- endfor %}

with

roles as (

    select
        oid,
        rolname
    from pg_catalog.pg_roles
    where rolname in ('analyst', 'auditor')

),

relations as (

    select
        found.oid,
        spaces.nspname as schema_name,
        cast(cast(found.oid as regclass) as text) as table_name
    from pg_catalog.pg_class as found
    inner join pg_catalog.pg_namespace as spaces on found.relnamespace = spaces.oid
    where
        spaces.nspname in ('{{ granary.published_schema() }}', '{{ granary.personal_schema() }}')
        and found.relkind in ('r', 'p', 'v')

)

select
    'reads what is behind a mask' as fault,
    roles.rolname || ' ' || relations.table_name as what
from relations
cross join roles
where
    relations.schema_name = '{{ granary.personal_schema() }}'
    and has_any_column_privilege(roles.oid, relations.oid, 'select')

union all

select
    'has no mask' as fault,
    masked.table_name || ' ' || masked.column_name as what
from (
    values
    {{ masked | join(',\n    ') if masked else "('', '')" }}
) as masked (table_name, column_name)
inner join relations on masked.table_name = relations.table_name
left join ops.unpublished as waiting
    on masked.table_name = waiting.schema_name || '.' || waiting.mart
where
    waiting.mart is null
    and coalesce(pg_get_viewdef(relations.oid, true) not like '%END AS ' || masked.column_name || '%', true)

union all

select
    'enters a closed schema' as fault,
    roles.rolname || ' ' || spaces.nspname as what
from roles
cross join pg_catalog.pg_namespace as spaces
where
    spaces.nspname in ('{{ generate_schema_name("build", none) }}', '{{ granary.personal_schema() }}')
    and has_schema_privilege(roles.oid, spaces.oid, 'usage')
