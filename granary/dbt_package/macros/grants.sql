{#-
    Who may read what is published. A mart's config `grants` is about the published table: what is being built is closed
    to everybody, so that nobody reads what is not audited yet and no query of theirs holds a build up.
-#}

{#- dbt's own, for every relation that it builds. -#}
{% macro postgres__apply_grants(relation, grant_config, should_revoke=true) -%}
    {%- if not granary.is_built_apart(model) -%}
        {{ default__apply_grants(relation, grant_config, should_revoke) }}
    {%- endif -%}
{%- endmacro %}

{#-
    Who was given what on the published relations: 'schema.table' -> privilege -> grantees, as SQL writes them. Also of
    relations that nobody was given.
-#}
{% macro grants_held() -%}
    {%- set recorded -%}
        select
            tables.relnamespace::regnamespace || '.' || tables.relname as relation,
            lower(held.privilege_type) as privilege,
            case when held.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(held.grantee)) end as grantee
        from pg_class as tables
        left join lateral aclexplode(tables.relacl) as held on held.grantee <> tables.relowner
        where
            tables.relnamespace in (to_regnamespace('{{ granary.published_schema() }}'), to_regnamespace('{{ granary.personal_schema() }}'))
            and tables.relkind in ('r', 'p', 'v')
        order by relation, privilege, grantee
    {%- endset -%}
    {%- set held = {} -%}
    {%- for relation, privilege, grantee in run_query(recorded).rows -%}
        {%- set privileges = held.setdefault(relation, {}) -%}
        {%- if privilege -%}{%- do privileges.setdefault(privilege, []).append(grantee) -%}{%- endif -%}
    {%- endfor -%}
    {{ return(held) }}
{%- endmacro %}

{#- Statements that give each published table its grants and comments, as far as it does not have them. -#}
{% macro grant_published(marts, held) -%}
    {%- for mart in marts -%}
    {{ granary.grant_relation(mart.table, granary.grants_of_table(mart), held.get(mart.table)) }}
    {%- endfor %}
    {{ granary.comment_published(marts, 'table') }}
    {{ granary.grant_schema(granary.published_schema(), marts | map(attribute='node.config.grants') | list) }}
{%- endmacro %}

{#- The same for marts that are not published now: what `grants` says may have changed all the same. -#}
{% macro grant_others(known, waiting, held) -%}
    {%- for name, node in known.items() if name not in waiting -%}
        {%- set relation = granary.published_schema() ~ '.' ~ name -%}
        {%- if relation in held %}{{ granary.grant_relation(relation, node.config.grants, held[relation]) }}{% endif -%}
    {%- endfor -%}
{%- endmacro %}

{#- The views of marts with personal columns, with their grants and comments: the mart's own `grants` are theirs. -#}
{% macro show_published(marts, held) -%}
    {%- for mart in marts %}
    {%- set is_new = mart.way == 'replace' or not mart.is_shown %}
    {{ granary.show_masked(mart, mart.view_columns) }}
    {{ granary.grant_relation(mart.shown, mart.node.config.grants, none if is_new else held.get(mart.shown)) }}
    {%- endfor %}
    {%- if marts %}
    {{ granary.comment_published(marts, 'shown') }}
    {{ granary.grant_schema(granary.personal_schema(), marts | map(attribute='node.config.meta.unmasked') | list) }}
    {%- endif %}
{%- endmacro %}

{#- Whoever reads the table behind a view sees the real values, in the view as well. -#}
{% macro grants_of_table(mart) -%}
    {{ return(mart.node.config.meta.get('unmasked', {}) if mart.has_view else mart.node.config.grants) }}
{%- endmacro %}

{#- Statements that make what is held on a relation what is wanted: both privilege -> grantees, or none. -#}
{% macro grant_relation(relation, wanted, held=none) -%}
    {%- set wanted, held = wanted or {}, held or {} -%}
    {%- for privilege, grantees in held.items() -%}
        {%- for grantee in grantees | reject('in', wanted.get(privilege, [])) %}
    revoke {{ privilege }} on {{ relation }} from {{ grantee }};
        {%- endfor -%}
    {%- endfor -%}
    {%- for privilege, grantees in wanted.items() -%}
        {%- for grantee in grantees | reject('in', held.get(privilege, [])) %}
    grant {{ privilege }} on {{ relation }} to {{ grantee }};
        {%- endfor -%}
    {%- endfor -%}
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

{#- dbt's own, for every relation that it builds: both kinds of comments at once, of the columns that are declared. -#}
{% macro postgres__persist_docs(relation, model, for_relation, for_columns) -%}
    {%- set comments -%}
        {%- if for_relation and config.persist_relation_docs() and model.description %}
        {{ alter_relation_comment(relation, model.description) }}
        {%- endif -%}
        {%- for column in model.columns.values() if for_columns and config.persist_column_docs() %}
        comment on column {{ relation }}.{{ adapter.quote(column.name) if column.quote else column.name }}
        is {{ postgres_escape_comment(column.description) }};
        {%- endfor -%}
    {%- endset -%}
    {%- if comments | trim -%}{%- do run_query(comments) -%}{%- endif -%}
{%- endmacro %}
