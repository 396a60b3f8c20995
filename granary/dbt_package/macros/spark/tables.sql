{#- Tables of Spark. Columns have the types that the contract declares for Postgres, in Spark's words. -#}

{% macro spark_type(kind) -%}
    {%- set words = {
        'bigint': 'bigint', 'boolean': 'boolean', 'date': 'date', 'double precision': 'double', 'integer': 'int',
        'real': 'float', 'smallint': 'smallint', 'text': 'string', 'timestamp with time zone': 'timestamp',
        'timestamp without time zone': 'timestamp_ntz', 'uuid': 'string', 'jsonb': 'string',
    } -%}
    {%- set kind = kind | lower | trim -%}
    {%- if kind.startswith('numeric(') -%}
        {{ return(kind | replace('numeric', 'decimal')) }}
    {%- elif kind.endswith('[]') -%}
        {{ return('array<' ~ granary.spark_type(kind[:-2]) ~ '>') }}
    {%- elif kind not in words -%}
        {{ exceptions.raise_compiler_error(model.name ~ ': Spark has no type that keeps what ' ~ kind ~ ' does; declare another one') }}
    {%- endif -%}
    {{ return(words[kind]) }}
{%- endmacro %}

{#- The types of a contract are given, and not only checked. -#}
{% macro spark__get_assert_columns_equivalent(sql) -%}
{%- endmacro %}

{% macro spark__get_select_subquery(sql) -%}
    {%- set casts = [] -%}
    {%- for column in model.columns.values() -%}
        {%- do casts.append('cast(' ~ column.name ~ ' as ' ~ granary.spark_type(column.data_type) ~ ') as ' ~ column.name) -%}
    {%- endfor %}
    select {{ casts | join(', ') }} from (
        {{ sql }}
    ) as made
{%- endmacro %}

{#- A seed, whose column types are declared for Postgres. -#}
{% macro spark__create_csv_table(model, agate_table) -%}
    {%- set columns = [] -%}
    {%- for name in agate_table.column_names -%}
        {%- do columns.append(name ~ ' ' ~ granary.spark_type(model['config'].get('column_types', {}).get(name, 'text'))) -%}
    {%- endfor -%}
    {%- set sql = 'create table ' ~ this.render() ~ ' (' ~ columns | join(', ') ~ ') using parquet' -%}
    {%- call statement('_') -%}{{ sql }}{%- endcall -%}
    {{ return(sql) }}
{%- endmacro %}

{% macro spark__load_csv_rows(model, agate_table) -%}
    {%- set rows = [] -%}
    {%- for row in agate_table.rows -%}
        {%- set cells = [] -%}
        {%- for name in agate_table.column_names -%}
            {%- set kind = granary.spark_type(model['config'].get('column_types', {}).get(name, 'text')) -%}
            {%- set cell = 'null' if row[name] is none else "'" ~ (row[name] | string | replace('\\', '\\\\') | replace("'", "\\'")) ~ "'" -%}
            {%- do cells.append('cast(' ~ cell ~ ' as ' ~ kind ~ ')') -%}
        {%- endfor -%}
        {%- do rows.append('(' ~ cells | join(', ') ~ ')') -%}
    {%- endfor -%}
    {%- set sql = 'insert into ' ~ this.render() ~ ' values ' ~ rows | join(', ') -%}
    {%- if rows -%}{%- do run_query(sql) -%}{%- endif -%}
    {{ return(sql) }}
{%- endmacro %}

{#- A model that is incremental on Postgres. Its `partition_by` is about what changes together, and nothing of files. -#}
{% macro written_whole() -%}
    {%- set earlier = load_relation(this) -%}
    {%- if earlier -%}{%- do adapter.drop_relation(earlier) -%}{%- endif -%}
    {%- call statement('main') -%}{{ create_table_as(false, this, model['compiled_code']) }}{%- endcall -%}
    {{ return({'relations': [this.incorporate(type='table')]}) }}
{%- endmacro %}

{% macro spark__partition_cols(label, required=false) -%}
{%- endmacro %}

{#- History is kept by Postgres, where a row can be closed; `granary spark load` brings it. -#}
{% macro kept_by_postgres() -%}
    {%- if not load_relation(this) -%}
        {{ exceptions.raise_compiler_error(this ~ ' is not on Spark: run `granary spark load`') }}
    {%- endif -%}
    {%- call statement('main') -%} select 1 {%- endcall -%}
    {{ return({'relations': [this]}) }}
{%- endmacro %}

{#- Parquet enforces nothing, and there are no roles: dbt's own fail. Data tests check what is never null. -#}
{% macro spark__persist_constraints(relation, model) -%}
{%- endmacro %}

{% macro spark__apply_grants(relation, grant_config, should_revoke=true) -%}
{%- endmacro %}
