{#-
    ops.model_watermarks keeps, for each model that reads loads and each source system, the highest load that it has seen
    (load_id) and the one before its latest build (previous_load_id), in the transaction that builds the model.
-#}
{% macro watermark_name() -%}
    {{ this.schema }}.{{ this.identifier }}
{%- endmacro %}

{#- Pre-hook of a model that reads loads: for each source system, the relations whose highest load_id counts. -#}
{% macro advance_watermark(sources) -%}
    {%- set named = {} -%}
    {%- for name, relations in sources.items() -%}{%- do named.update({name: relations | map('string') | list}) -%}{%- endfor -%}
    select ops.advance_watermark('{{ granary.watermark_name() }}', {{ granary.as_json(named) }}, {{ is_incremental() }})
{%- endmacro %}

{#- Pre-hook of a model that reads another one that has a watermark: it has seen exactly what that one has seen. -#}
{% macro follow_watermark(upstream) -%}
    select ops.follow_watermark('{{ granary.watermark_name() }}', '{{ upstream.schema }}.{{ upstream.identifier }}', {{ is_incremental() }})
{%- endmacro %}
