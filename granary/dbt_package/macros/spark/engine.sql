{#-
    What the engine does in Postgres beside the models has no counterpart on Spark: nothing is audited in a transaction,
    held or published; each model is computed whole, and takes its place when it is. docs/engine/spark.md
-#}

{% macro spark__increment() -%}
    {{ return(none) }}
{%- endmacro %}

{% macro spark__should_full_refresh() -%}
    {{ return(true) }}
{%- endmacro %}

{% macro spark__tests_only_latest_publish(node) -%}
    {{ return(false) }}
{%- endmacro %}

{% macro spark__start_run() -%}
{%- endmacro %}

{% macro spark__finish_run(results) -%}
{%- endmacro %}

{% macro spark__record_unpublished() -%}
{%- endmacro %}

{#- Marts are built where they are read. -#}
{% macro spark__schema_name(custom_schema_name) -%}
    {{ granary.default__schema_name('marts' if custom_schema_name | trim == 'build' else custom_schema_name) }}
{%- endmacro %}

{#- Every load that is there brought what it has. -#}
{% macro spark__log_changes(relation, partition, source_name, moment=none, versions={}, versions_source=none) -%}
arrived as (

    select
        load_id,
        {{ partition }},
        count(*) as row_count
    from {{ relation }}
    group by load_id, {{ partition }}

)

select
    '{{ source_name }}' as source,
    load_id,
    {{ partition }},
    'arrived' as reason,
    row_count
from arrived
{%- endmacro %}

{% macro spark__unseen_loads(source_name, column='load_id') -%}
    true
{%- endmacro %}

{% macro spark__loads_not_logged(source_name, table_name) -%}
    select load_id from {{ source('ops', 'load_audit') }} where false
{%- endmacro %}

{#- Of the ledger, what a copy of the raw tables can be held against: no row is of a load that it does not know. -#}
{% macro spark__ledger_differences(tables, keyed=false) -%}
    {%- for source_name, table_name, model_name in tables %}
    select
        '{{ source_name }}.{{ table_name }}' as relation,
        brought._load_id as load_id
    from (select distinct _load_id from {{ source(source_name, table_name) }}) as brought
    left join {{ source('ops', 'load_audit') }} as loads
        on brought._load_id = loads.load_id and loads.source = '{{ source_name }}'
    where loads.load_id is null
    {{- '\n    union all' if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{% macro spark__and_not_archived(source_name, column) -%}
{%- endmacro %}
