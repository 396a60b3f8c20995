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
    {{ grant_relation(mart.table, grants_of_table(mart), mart.way in ('create', 'replace')) }}
    {%- endfor %}
    {{ comment_published(marts, 'table') }}
    {{ grant_schema(published_schema(), marts | map(attribute='node.config.grants') | list) }}
{%- endmacro %}

{#- The same for marts that are not published now: what `grants` says may have changed all the same. -#}
{% macro grant_others(known, waiting) -%}
    {%- set schema = published_schema() -%}
    {%- set held -%}
        select
            tables.relname,
            coalesce(string_agg(pg_get_userbyid(held.grantee), ' '), '') as grantees
        from pg_class as tables
        left join lateral aclexplode(tables.relacl) as held
            on held.grantee <> tables.relowner and held.privilege_type = 'SELECT'
        where tables.relnamespace = to_regnamespace('{{ schema }}') and tables.relkind in ('r', 'v')
        group by tables.relname
        order by tables.relname
    {%- endset -%}
    {%- for row in run_query(held).rows if row[0] in known and row[0] not in waiting -%}
        {%- set now, wanted = row[1].split(), known[row[0]].config.grants.get('select', []) -%}
        {%- for grantee in wanted if grantee not in now %}
    grant select on {{ schema }}.{{ row[0] }} to {{ grantee }};
        {%- endfor -%}
        {%- for grantee in now if grantee not in wanted %}
    revoke select on {{ schema }}.{{ row[0] }} from {{ grantee }};
        {%- endfor -%}
    {%- endfor -%}
{%- endmacro %}

{#- The views of marts with personal columns, with their grants and comments: the mart's own `grants` are theirs. -#}
{% macro show_published(marts) -%}
    {%- for mart in marts %}
    {{ show_masked(mart, mart.view_columns) }}
    {{ grant_relation(mart.shown, mart.node.config.grants, mart.way == 'replace' or not mart.is_shown) }}
    {%- endfor %}
    {%- if marts %}
    {{ comment_published(marts, 'shown') }}
    {{ grant_schema(personal_schema(), marts | map(attribute='node.config.meta.unmasked') | list) }}
    {%- endif %}
{%- endmacro %}

{#- Whoever reads the table behind a view sees the real values, in the view as well. -#}
{% macro grants_of_table(mart) -%}
    {{ return(mart.node.config.meta.get('unmasked', {}) if mart.has_view else mart.node.config.grants) }}
{%- endmacro %}

{% macro grant_relation(name, grants, is_new) -%}
    {%- set schema, identifier = name.split('.') -%}
    {%- set relation = api.Relation.create(schema=schema, identifier=identifier, database=target.database) -%}
    {%- set current = {} if is_new else adapter.standardize_grants_dict(run_query(get_show_grant_sql(relation))) -%}
    {%- set wanted = grants or {} -%}
    {%- for statement in
        get_dcl_statement_list(relation, diff_of_two_dicts(current, wanted), get_revoke_sql)
        + get_dcl_statement_list(relation, diff_of_two_dicts(wanted, current), get_grant_sql) %}
    {{ statement }};
    {%- endfor %}
{%- endmacro %}

{#- Let everybody into a schema who is granted something there. -#}
{% macro grant_schema(schema, grants) -%}
    {%- set readers = [] -%}
    {%- for one in grants if one -%}
        {%- for grantees in one.values() -%}
            {%- do readers.extend([grantees] if grantees is string else grantees) -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- if readers %}
    grant usage on schema {{ schema }} to {{ readers | unique | join(', ') }};
    {%- endif %}
{%- endmacro %}

{#- The comments of the tables as they are built, on the published ones: on tables, or on the views before them. -#}
{% macro comment_published(marts, where) -%}
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
                    {% for mart in marts %}('{{ mart.build }}', '{{ mart[where] }}'){{ ', ' if not loop.last }}{% endfor %}
                ) as names (built, published)
            )

            select format(
                'comment on {{ 'view' if where == 'shown' else 'table' }} %s is %L', published,
                obj_description(built, 'pg_class')
            )
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
