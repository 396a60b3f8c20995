{{ config(meta={'dagster': {'ref': {'name': 'restatements'}}}) }}

-- The roles analyst and auditor read neither the tables behind masked marts nor what is being built, and each mart with
-- columns to mask is a view that masks them; one that this run builds, or that waits to be published, becomes one then.
-- depends_on: {{ ref('restatements') }}
{%- set marts, build = [], generate_schema_name("build", none) | trim %}
{%- for node in (graph.nodes.values() if execute else [])
    if granary.is_built_apart(node) and node.unique_id not in selected_resources %}
{%- do marts.append({'kind': node.resource_type, 'schema': build, 'alias': node.alias, 'columns': granary.described(node).columns}) %}
{%- endfor %}
{%- set described = granary.as_json({'build': build, 'masks': var('personal_tiers'), 'nodes': marts}) %}

with

roles as (

    select
        oid,
        rolname
    from pg_catalog.pg_roles
    where rolname in (ops.role_name('analyst'), ops.role_name('auditor'))

),

relations as (

    select
        found.oid,
        spaces.nspname as schema_name,
        cast(cast(found.oid as regclass) as text) as table_name
    from pg_catalog.pg_class as found
    inner join pg_catalog.pg_namespace as spaces on found.relnamespace = spaces.oid
    where
        spaces.nspname in ('{{ granary.published_schema() }}', '{{ generate_schema_name("personal", none) | trim }}')
        and found.relkind in ('r', 'p', 'v')

)

select
    'reads what is behind a mask' as fault,
    roles.rolname || ' ' || relations.table_name as what
from relations
cross join roles
where
    relations.schema_name = '{{ generate_schema_name("personal", none) | trim }}'
    and has_any_column_privilege(roles.oid, relations.oid, 'select')

union all

select
    'has no mask' as fault,
    relations.table_name || ' ' || masked.column_name as what
from ops.masked_columns({{ described }}) as masked
inner join relations
    on
        relations.schema_name = '{{ granary.published_schema() }}'
        and relations.table_name = relations.schema_name || '.' || masked.mart
left join ops.unpublished as waiting on relations.schema_name = waiting.schema_name and masked.mart = waiting.mart
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
    spaces.nspname in (
        '{{ build }}', '{{ generate_schema_name("personal", none) | trim }}',
        '{{ generate_schema_name("publish_history", none) | trim }}'
    )
    and has_schema_privilege(roles.oid, spaces.oid, 'usage')
