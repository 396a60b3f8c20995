{#-
    Watermarks. ops.model_watermarks keeps, for each incremental model and each source system, the highest load that the
    model has seen (load_id) and the one before its latest publish (previous_load_id). The hooks below run inside the
    model's transaction, so a build that fails also forgets that it has seen anything.
-#}

{#- The name under which the current model keeps its watermark: with the schema, so a developer's copy has its own. -#}
{% macro watermark_name() -%}
    {{ this.schema }}.{{ this.identifier }}
{%- endmacro %}

{#- Pre-hook of a model that reads loads: for each source system, the relations whose highest load_id counts. -#}
{% macro advance_watermark(sources) -%}
    insert into ops.model_watermarks as mine (model, source, previous_load_id, load_id, updated_at)
    {% for name, relations in sources.items() -%}
    select
        '{{ granary.watermark_name() }}',
        '{{ name }}',
        0,
        greatest(0
            {%- for relation in relations -%}
            , (
                select max(load_id) from {{ relation }}
                {% if relation.identifier == 'load_audit' -%} where source = '{{ name }}' {%- endif %}
            )
            {%- if relation.identifier == 'load_audit' %}
            , (select max(load_id) from ops.erased_rows where source = '{{ name }}')
            {%- endif %}
            {%- endfor -%}),
        current_timestamp
    {% if not loop.last %}union all{% endif %}
    {% endfor -%}
    {{ granary.keep_previous_watermark() }}
{%- endmacro %}

{#- Pre-hook of a model that reads another incremental model: it has seen exactly what that model has seen. -#}
{% macro follow_watermark(upstream) -%}
    insert into ops.model_watermarks as mine (model, source, previous_load_id, load_id, updated_at)
    select '{{ granary.watermark_name() }}', source, 0, load_id, current_timestamp
    from ops.model_watermarks
    where model = '{{ upstream.schema }}.{{ upstream.identifier }}'
    {{ granary.keep_previous_watermark() }}
{%- endmacro %}

{% macro keep_previous_watermark() -%}
    on conflict (model, source) do update set
        previous_load_id = {{ 'mine.load_id' if is_incremental() else '0' }},
        load_id = excluded.load_id,
        updated_at = excluded.updated_at
{%- endmacro %}
