{{ config(meta={'dagster': {'ref': {'name': 'dim_household'}}}) }}

-- The role analyst reads every published mart, no column of it that is personal, and nothing that is being built.
{%- set personal = [] %}
{%- for node in graph.nodes.values() if node.resource_type == 'model' and 'marts' in node.tags %}
{%- for column in node.columns.values() if column.config.meta.get('personal') %}
{%- do personal.append([published_schema() ~ '.' ~ node.alias, column.name]) %}
{%- endfor %}
{%- endfor %}

select
    columns.table_schema,
    columns.table_name,
    columns.column_name
from information_schema.columns as columns
inner join pg_catalog.pg_roles as roles on roles.rolname = 'analyst'
where
    columns.table_schema = '{{ published_schema() }}'
    and (
        has_column_privilege(
            roles.oid, format('%I.%I', columns.table_schema, columns.table_name), columns.column_name, 'select'
        )
        = (columns.table_schema || '.' || columns.table_name || '.' || columns.column_name in (
            {%- for table, column in personal %}
            '{{ table }}.{{ column }}',
            {%- endfor %}
            ''
        ))
    )

union all

select
    '{{ ref("dim_household").schema }}' as table_schema,
    null as table_name,
    null as column_name
where has_schema_privilege('analyst', '{{ ref("dim_household").schema }}', 'usage')
