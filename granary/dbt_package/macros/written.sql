{#-
    Text that people wrote, read as what it is: null where it is written otherwise, never an error. Staging models of
    `granary add-source` use these beside the text itself; what they read is what granary/profiling/written.py counts,
    which tests/python/engine/authoring/test_written.py compares.
-#}

{#- A day: `order` is ymd, dmy, mdy, or with a month's English name dMy or Mdy. 31/02/2023 is null. -#}
{% macro text_as_date(column, order) -%}
    {%- set day, month, named = '(0?[1-9]|[12][0-9]|3[01])', '(0?[1-9]|1[0-2])', '[A-Za-z]{3,9}' -%}
    {%- set patterns = {
        'ymd': '[0-9]{4}[-/.]' ~ month ~ '[-/.]' ~ day,
        'dmy': day ~ '[-/.]' ~ month ~ '[-/.][0-9]{4}',
        'mdy': month ~ '[-/.]' ~ day ~ '[-/.][0-9]{4}',
        'dMy': day ~ '[- ]' ~ named ~ '[- ,]+[0-9]{4}',
        'Mdy': named ~ '[- ]' ~ day ~ '[- ,]+[0-9]{4}',
    } -%}
    {%- set parts = "(regexp_split_to_array(trim(" ~ column ~ "), '[^A-Za-z0-9]+'))" -%}
    {%- set place = order | lower -%}
    {%- set d = 'cast(' ~ parts ~ '[' ~ (place.index('d') + 1) ~ '] as integer)' -%}
    {%- set m = parts ~ '[' ~ (place.index('m') + 1) ~ ']' -%}
    {%- set y = 'nullif(cast(' ~ parts ~ '[' ~ (place.index('y') + 1) ~ '] as integer), 0)' -%}
    {%- if 'M' in order -%}
        {%- set names = "'jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'" -%}
        {%- set m = 'array_position(array[' ~ names ~ '], lower(left(' ~ m ~ ', 3)))' -%}
    {%- else -%}
        {%- set m = 'cast(' ~ m ~ ' as integer)' -%}
    {%- endif -%}
    {%- set found = 'make_date(' ~ y ~ ', ' ~ m ~ ', 1) + ' ~ d ~ ' - 1' -%}
    case
        when trim({{ column }}) ~ '^{{ patterns[order] }}$'
            then case when extract(month from {{ found }}) = {{ m }} then {{ found }} end
    end
{%- endmacro %}

{#- A time of day, with or without seconds, of 24 or of twice 12 hours. -#}
{% macro text_as_time(column) -%}
    case when trim({{ column }}) ~ '^({{ granary.time_pattern() }})$' then cast(trim({{ column }}) as time) end
{%- endmacro %}

{% macro time_pattern() -%}
    ([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?|(0?[1-9]|1[0-2]):[0-5][0-9](:[0-5][0-9])? ?[AaPp][Mm]
{%- endmacro %}

{#- A day and a time, as text_as_date and text_as_time read them. -#}
{% macro text_as_timestamp(column, order) -%}
    {%- set ending = "'[ T]+(" ~ granary.time_pattern() ~ ")$'" -%}
    case
        when trim({{ column }}) ~ {{ ending }}
            then
                {{ granary.text_as_date('regexp_replace(trim(' ~ column ~ '), ' ~ ending ~ ", '')", order) }}
                + {{ granary.text_as_time("ltrim(substring(trim(" ~ column ~ ") from '[ T]+[0-9]+:.*$'), ' T')") }}
    end
{%- endmacro %}

{#- A number with its decimal mark, "." or ","; grouped by threes or not, with a currency or in brackets (negative). -#}
{% macro text_as_number(column, mark) -%}
    {%- set plain, signs = granary.number_pattern(mark), '[$€£¥₹]|EUR|USD|GBP|CHF' -%}
    {%- set open = '([-+]? ?(' ~ signs ~ ')? ?[-+]?' ~ plain ~ ' ?(' ~ signs ~ ')?' -%}
    {{ granary.digits_of(column, mark, open ~ '|[(]' ~ '(' ~ signs ~ ')?' ~ plain ~ '[)])') }}
{%- endmacro %}

{#- A number before a percent sign: 5% is 5. -#}
{% macro text_as_percent(column, mark) -%}
    {{ granary.digits_of(column, mark, '[-+]?' ~ granary.number_pattern(mark) ~ ' ?%') }}
{%- endmacro %}

{% macro number_pattern(mark) -%}
    {%- set fraction, group = '([' ~ mark ~ '][0-9]+)?', ',' if mark == '.' else '.' -%}
    ([1-9][0-9]{0,2}([{{ group }} ''][0-9]{3})+{{ fraction }}|(0|[1-9][0-9]*){{ fraction }})
{%- endmacro %}

{% macro digits_of(column, mark, pattern) -%}
    case
        when trim({{ column }}) ~ '^{{ pattern }}$'
            then
                case when {{ column }} ~ '^[^0-9]*[-(]' then -1 else 1 end
                * cast(replace(regexp_replace({{ column }}, '[^0-9{{ mark }}]', '', 'g'), ',', '.') as numeric)
    end
{%- endmacro %}

{#- True or false for two words, in any case. -#}
{% macro text_as_boolean(column, yes, no) -%}
    case lower(trim({{ column }})) when '{{ yes }}' then true when '{{ no }}' then false end
{%- endmacro %}
