{#- Text that people wrote, read as what it is: functions of the server (granary/warehouse/migrations/written.sql), which models may call as well. -#}
{% macro text_as_date(column, order) -%} ops.text_as_date({{ column }}, '{{ order }}') {%- endmacro %}
{% macro text_as_time(column) -%} ops.text_as_time({{ column }}) {%- endmacro %}
{% macro text_as_timestamp(column, order) -%} ops.text_as_timestamp({{ column }}, '{{ order }}') {%- endmacro %}
{% macro text_as_number(column, mark) -%} ops.text_as_number({{ column }}, '{{ mark }}') {%- endmacro %}
{% macro text_as_percent(column, mark) -%} ops.text_as_percent({{ column }}, '{{ mark }}') {%- endmacro %}
{% macro text_as_boolean(column, yes, no) -%} ops.text_as_boolean({{ column }}, '{{ yes }}', '{{ no }}') {%- endmacro %}
