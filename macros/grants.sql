{#-
    Who may read what is published. A mart's config `grants` is about the published table: what is being built is closed
    to everybody, so that nobody reads what is not audited yet and no query of theirs holds a build up.
-#}

{#- dbt's own, for every relation that it builds. -#}
{% macro postgres__apply_grants(relation, grant_config, should_revoke=true) -%}
    {%- if not is_built_apart(model) -%}
        {{ default__apply_grants(relation, grant_config, should_revoke) }}
    {%- endif -%}
{%- endmacro %}

{#- Statements that give each published table its grants and comments, as far as it does not have them. -#}
{% macro grant_published(marts) -%}
    {%- for mart in marts -%}
        {%- set is_new = mart.way in ('create', 'replace') -%}
        {%- set relation = api.Relation.create(
            schema=mart.schema, identifier=mart.table.split('.')[1], database=mart.node.database) -%}
        {%- set current = {} if is_new else adapter.standardize_grants_dict(run_query(get_show_grant_sql(relation))) -%}
        {%- set wanted = mart.node.config.grants or {} -%}
        {%- for statement in
            get_dcl_statement_list(relation, diff_of_two_dicts(current, wanted), get_revoke_sql)
            + get_dcl_statement_list(relation, diff_of_two_dicts(wanted, current), get_grant_sql) %}
    {{ statement }};
        {%- endfor %}
    {{ grant_columns(mart, is_new) }}
    {%- endfor %}
    {{ comment_published(marts) }}
    grant usage on schema {{ published_schema() }} to analyst;
{%- endmacro %}

{#- Of a mart with personal columns (meta.personal) analysts may read the others. -#}
{% macro grant_columns(mart, is_new) -%}
    {%- set personal = [] -%}
    {%- for column in mart.node.columns.values() if column.config.meta.get('personal') -%}
        {%- do personal.append(column.name) -%}
    {%- endfor -%}
    {%- set open = mart.columns | reject('in', personal) | list -%}
    {%- if personal and (is_new or not analysts_read_exactly(mart.published, open)) %}
    revoke select on {{ mart.table }} from analyst;
    grant select ({{ open | join(', ') }}) on {{ mart.table }} to analyst;
    {%- endif -%}
{%- endmacro %}

{% macro analysts_read_exactly(relation, columns) -%}
    {%- set differing = run_query(
        "select 1 from pg_attribute where attrelid = to_regclass('" ~ relation ~ "') and attnum > 0 and not attisdropped"
        ~ " and has_column_privilege('analyst', attrelid, attnum, 'select') <> (attname in ('" ~ columns | join("', '")
        ~ "'))") -%}
    {{ return(differing.rows | length == 0) }}
{%- endmacro %}

{#- The comments of the tables as they are built, on the published ones. -#}
{% macro comment_published(marts) -%}
    do $granary$
    declare
        statement text;
    begin
        for statement in
            with pairs as (
                select
                    cast(built as regclass) as built,
                    cast(published as regclass) as published
                from (
                    values
                    {% for mart in marts %}('{{ mart.build }}', '{{ mart.table }}'){{ ', ' if not loop.last }}{% endfor %}
                ) as names (built, published)
            )

            select format('comment on table %s is %L', published, obj_description(built, 'pg_class'))
            from pairs
            where obj_description(built, 'pg_class') is distinct from obj_description(published, 'pg_class')
            union all
            select format(
                'comment on column %s.%I is %L', pairs.published, mine.attname, col_description(built, theirs.attnum)
            )
            from pairs
            inner join pg_attribute as theirs on pairs.built = theirs.attrelid and theirs.attnum > 0
            inner join pg_attribute as mine on pairs.published = mine.attrelid and theirs.attname = mine.attname
            where col_description(built, theirs.attnum) is distinct from col_description(published, mine.attnum)
        loop
            execute statement;
        end loop;
    end $granary$;
{%- endmacro %}
