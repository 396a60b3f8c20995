{#-
    Personal data. A column says what it is in `config.meta.personal`: one of the tiers of the var `personal_tiers`
    (dbt_project.yml), which says what of such a column is shown to those who may read the mart. The tier compiles:

        schema `personal`   the table of a mart that has columns to mask; for those of the mart's `meta.unmasked`
        schema `marts`      a view of the same name: their real values for those who may read that table, masks for
                            everybody else

    So nobody writes such a view, and who is let in is the table's grants. See docs/engine/decisions/0022.
-#}

{#- The schema of the tables behind masked marts. -#}
{% macro personal_schema() -%}
    {{ return(generate_schema_name('personal', none)) }}
{%- endmacro %}

{#- The tier of a column, or nothing; one that does not exist is an error. -#}
{% macro personal_tier(node, column) -%}
    {%- set tier = column.config.meta.get('personal') -%}
    {%- if tier and tier not in var('personal_tiers') -%}
        {{ exceptions.raise_compiler_error(
            node.name ~ '.' ~ column.name ~ ': there is no tier of personal data ' ~ tier ~ '; write one of '
            ~ var('personal_tiers').keys() | join(', ') ~ ' (docs/engine/access.md), or add it to the var personal_tiers.') }}
    {%- endif -%}
    {{ return(tier) }}
{%- endmacro %}

{#- The names of the columns of a node that only few may read. -#}
{% macro masked_columns(node) -%}
    {%- set found = [] -%}
    {%- for column in node.columns.values() -%}
        {%- set tier = granary.personal_tier(node, column) -%}
        {%- if tier and var('personal_tiers')[tier] == 'mask' -%}{%- do found.append(column.name) -%}{%- endif -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}

{#- Stops at a column whose `meta.subject` is no data subject of dbt_project.yml. -#}
{% macro check_subject(node, column) -%}
    {%- set subject = column.config.meta.subject -%}
    {%- set where = node.name ~ '.' ~ column.name ~ ': ' -%}
    {%- if subject is not string -%}
        {{ exceptions.raise_compiler_error(where ~ 'a column holds keys of one data subject, and not of ' ~ subject ~ '.') }}
    {%- elif subject not in var('data_subjects', {}) -%}
        {{ exceptions.raise_compiler_error(
            where ~ 'there is no data subject ' ~ subject ~ ' in dbt_project.yml (vars: data_subjects); the project has '
            ~ (var('data_subjects', {}).keys() | join(', ') or 'none') ~ '.') }}
    {%- endif -%}
{%- endmacro %}

{#-
    On-run-start: every tier and data subject exists, and no personal column of a parent comes out of a child under the
    same name without a tier of its own, or `not_personal` with the reason, nor a key of a data subject without its
    `subject`, by which an erasure finds it. tests/python/project/pipeline/test_personal_data.py follows renames.
-#}
{% macro check_tiers() -%}
    {%- if execute -%}
        {%- set nodes = dict(graph.sources, **graph.nodes) -%}
        {%- for node in nodes.values() if node.resource_type in ('source', 'model', 'seed', 'snapshot') -%}
            {%- do granary.masked_columns(node) -%}
            {%- for column in node.columns.values() if 'subject' in column.config.meta -%}
                {%- do granary.check_subject(node, column) -%}
            {%- endfor -%}
            {%- set subjects = {} -%}
            {%- for id in node.get('depends_on', {}).get('nodes', []) if id in nodes -%}
                {%- for theirs in nodes[id].columns.values() if granary.personal_tier(nodes[id], theirs) -%}
                    {%- set mine = node.columns.get(theirs.name) -%}
                    {%- set whose = theirs.config.meta.get('subject') -%}
                    {%- if mine and not granary.personal_tier(node, mine) and not mine.config.meta.get('not_personal') -%}
                        {{ exceptions.raise_compiler_error(
                            node.name ~ '.' ~ mine.name ~ ' comes from ' ~ nodes[id].name ~ ', where it is personal ('
                            ~ theirs.config.meta.personal ~ '): give it config.meta.personal, or config.meta.not_personal'
                            ~ ' with the reason (docs/engine/access.md).') }}
                    {%- elif mine and whose and subjects.setdefault(mine.name, whose) != whose -%}
                        {{ exceptions.raise_compiler_error(
                            node.name ~ '.' ~ mine.name ~ ' comes from models where it is a key of ' ~ subjects[mine.name]
                            ~ ' and of ' ~ whose ~ ': give each a column of its own.') }}
                    {%- elif mine and mine.config.meta.get('subject') != whose -%}
                        {{ exceptions.raise_compiler_error(
                            node.name ~ '.' ~ mine.name ~ ' comes from ' ~ nodes[id].name ~ ', where its subject is '
                            ~ (whose or 'nobody') ~ ': give it the same config.meta.subject, so that'
                            ~ ' an erasure finds it (docs/engine/runbooks/forget-somebody.md).') }}
                    {%- endif -%}
                {%- endfor -%}
            {%- endfor -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}

{#- The select statement of the view of a mart. Who reads is asked once per statement and column, not per row. -#}
{% macro masked_query(mart, columns) -%}
    {%- set hidden = granary.masked_columns(mart.node) -%}
    {%- set is_open -%}
    (select has_table_privilege('{{ mart.published }}'::regclass, 'select'))
    {%- endset -%}
    select
    {%- for column in columns %}
        {% if column not in hidden -%}
        {{ column }}
        {%- elif mart.view_types[column] == 'text' -%}
        case when {{ is_open }} then {{ column }} when {{ column }} is not null then 'masked' end as {{ column }}
        {%- else -%}
        case when {{ is_open }} then {{ column }} end as {{ column }}
        {%- endif -%}
        {{ ',' if not loop.last }}
    {%- endfor %}
    from {{ mart.published }}
{%- endmacro %}

{#-
    The view of a mart, as its tiers are now: created, or replaced if it says something else, so that nobody waits for
    nothing; never dropped, since people's own views stand on it.
-#}
{% macro show_masked(mart, columns) -%}
    do $granary$
    begin
        create temporary view granary_wanted as
        {{ granary.masked_query(mart, columns) }};
        if pg_get_viewdef('pg_temp.granary_wanted'::regclass)
            is distinct from pg_get_viewdef(to_regclass('{{ mart.shown }}'))
        then
            if to_regclass('{{ mart.shown }}') is not null then
                {{ granary.attempts_to_lock(mart.shown) }}
            end if;
            create or replace view {{ mart.shown }} as
            {{ granary.masked_query(mart, columns) }};
        end if;
        drop view pg_temp.granary_wanted;
    end $granary$;
{%- endmacro %}

{#-
    A mart that was an ordinary table in `marts` and has got columns to mask: the table goes to the schema `personal` as
    it is, with its rows and indexes, and without the grants that it had.
-#}
{% macro move_behind_view(mart) -%}
    begin;
    {{ granary.lock_briefly(mart.shown) }}
    alter table {{ mart.shown }} set schema {{ granary.personal_schema() }};
    do $granary$
    declare
        reader text;
    begin
        for reader in
            select case when held.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(held.grantee)) end
            from pg_class as tables
            cross join lateral (
                select (aclexplode(tables.relacl)).grantee
                union
                select (aclexplode(columns.attacl)).grantee
                from pg_attribute as columns
                where columns.attrelid = tables.oid
            ) as held
            where tables.oid = '{{ mart.published }}'::regclass and held.grantee <> tables.relowner
        loop
            execute 'revoke all on {{ mart.published }} from ' || reader;
        end loop;
    end $granary$;
    {{ granary.show_masked(mart, mart.old_columns.keys() | list) }}
    {{ granary.grant_relation(mart.shown, mart.node.config.grants) }}
    commit;
{%- endmacro %}
