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
