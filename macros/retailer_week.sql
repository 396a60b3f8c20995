{#- The retailer's week of the year: weeks begin on Monday and week 1 is what is left of January 1's week. -#}
{% macro retailer_week(day) -%}
    cast((extract(doy from {{ day }}) + extract(isodow from date_trunc('year', {{ day }})) - 2) as integer) / 7 + 1
{%- endmacro %}

{#- The engine asks which partition a moment is in: that of the promotions is their week. -#}
{% macro default__partition_of(partition, moment) -%}
    {%- if partition == 'week' -%}
        {{ retailer_week(moment) }}
    {%- else -%}
        {{ granary.default__partition_of(partition, moment) }}
    {%- endif -%}
{%- endmacro %}
