{{ config(meta={'dagster': {'ref': {'name': 'dim_household'}}}) }}

-- The role analyst reads every mart, and no column that is personal.
{%- set personal = [] %}
{%- for node in graph.nodes.values() if node.resource_type == 'model' and 'marts' in node.tags %}
{%- for column in node.columns.values() if column.config.meta.get('personal') %}
{%- do personal.append([node.schema ~ '.' ~ node.alias, column.name]) %}
{%- endfor %}
{%- endfor %}

select
    columns.table_schema,
    columns.table_name,
    columns.column_name
from information_schema.columns as columns
inner join pg_catalog.pg_roles as roles on roles.rolname = 'analyst'
where
    columns.table_schema = '{{ ref("dim_household").schema }}'
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
